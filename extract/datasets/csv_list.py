"""Data sets that are a CSV file with the columns path, class and, if one likes, split and group (source)."""

import csv
import os
from pathlib import Path

from ...cache.index import SPLITS
from ..errors import ExtractError
from .class_split import assign_splits
from .coverage import count_coverage
from .folder import require_two_classes
from .scan import LINKS, FolderScan
from .videos import Listing, Video, absent_notes


def read_csv(path: Path, *, root: Path, seed: int = 0, follow_links: bool = False) -> Listing:
    """List the videos of a CSV file; paths are relative to `root` and, unless `follow_links`, stay inside it.

    A listed video that is not there becomes a row all the same, and fails when its turn comes: the list, not the
    disk, says what the data set is. ExtractError naming the line for whatever else is wrong.
    """
    scan = FolderScan(root, follow_links=follow_links)
    rows, has_splits = _rows(path)
    videos, first = [], {}
    for line, row in rows:
        video = _video(row, path, line, has_splits)
        if first.setdefault(video.key, line) != line:
            raise ExtractError(
                f"{path}, line {line}: '{video.key}' stands already in line {first[video.key]}; drop one of the lines"
            )
        if not scan.may_be_read(scan.root / video.path):
            scan.ignore(LINKS, scan.root / video.path)
        else:
            videos.append(video)
    absent = [video.path for video in videos if not (scan.root / video.path).exists()]
    if videos and len(absent) == len(videos):
        raise ExtractError(f"none of the {len(videos)} videos of {path} is in {root}; give --root DIR")
    require_two_classes(videos, scan, path, "a line path,class for every video")
    scheme, notes = "csv", ()
    if not has_splits:
        videos, scheme, note = assign_splits(videos, scheme, seed)
        notes = (note,)
    return Listing(
        videos=videos,
        scheme=scheme,
        coverage=count_coverage(videos),
        ignored=scan.ignored,
        absent=tuple(absent),
        notes=notes + absent_notes(absent) + scan.notes(),
    )


def _rows(path: Path) -> tuple[list[tuple[int, dict[str, str]]], bool]:
    """([(line number, row)], whether there is a split column)."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ExtractError(f"{path} must be a CSV file in UTF-8: {error}") from None
    missing = [name for name in ("path", "class") if name not in columns]
    if missing:
        raise ExtractError(
            f"{path} must begin with a line that names the columns path, class and, optionally, split and group; "
            f"there is no '{missing[0]}' in: {', '.join(columns) or '(an empty file)'}"
        )
    return rows, "split" in columns


def _video(row: dict[str, str], path: Path, line: int, has_splits: bool) -> Video:
    place = f"{path}, line {line}"
    values = {name: (row.get(name) or "").strip() for name in ("path", "class", "split", "group")}
    for name in ("path", "class"):
        if not values[name]:
            raise ExtractError(f"{place}: the {name} must not be empty")
    split = values["split"].lower() if has_splits else "test"
    if split not in SPLITS:
        raise ExtractError(f"{place}: split '{values['split']}' must be one of {', '.join(SPLITS)}")
    relative = Path(os.path.normpath(values["path"]))  # `a/../b` is `b`, so that one video has one key
    if relative.is_absolute() or relative.parts[:1] in ((), ("..",)):
        raise ExtractError(f"{place}: path '{values['path']}' must be relative to the root and stay inside it (--root)")
    key = relative.as_posix()
    return Video(key, key, values["class"], split, values["group"])
