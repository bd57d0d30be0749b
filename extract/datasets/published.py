"""Data sets with a published split: what is on disk is matched to it by class and file name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...cache.index import SPLITS
from ..errors import ExtractError
from ..splits.table import SplitClass, SplitTable, load_split
from .coverage import count_coverage
from .groups import source_group
from .matching import match_listed
from .naming import VIDEO_SUFFIXES, fold, stem_of
from .published_names import canonical_stem
from .scan import EMPTY, STRAY, FolderScan
from .split_files import class_spellings, differing_counts, read_split_files, where_to_get
from .videos import Listing, Video, absent_notes

UNKNOWN = "folders that match no class of the split"
UNLISTED = "videos that are not in the published lists"
LAYOUT = "ROOT/CLASS/VIDEO or ROOT/{train,val,test}/CLASS/VIDEO"


@dataclass(frozen=True)
class Found:
    """Something on disk that may be a video of the split. owner: the class whose folder it is in, None outside."""

    path: Path
    owner: SplitClass | None


def read_published(
    dataset: str, scheme: str, root: Path, *, split_files: Path | None, needs_lists: bool, follow_links: bool = False
) -> Listing:
    """List the videos of a published data set.

    Without list files every video in a class's folder belongs to it. With them, a video belongs if it is listed,
    wherever it lies: in its class's folder, or in one flat folder, as Something-Something comes. ExtractError when
    the lists are needed and not given, or when nothing matches.
    """
    table = load_split(scheme)
    if split_files is None and needs_lists:
        raise ExtractError(f"'{dataset}' chooses among the videos, so it needs --split-files DIR with "
                           f"{where_to_get(table)}")  # fmt: skip
    scan = FolderScan(root, follow_links=follow_links)
    found = _walk(scan, table, flat=split_files is not None)
    if split_files is None:
        videos, absent, notes = _all_in_folders(dataset, scan, found), [], ()
    else:
        videos, absent, notes = _listed(dataset, scan, found, table, split_files)
    if not videos:
        raise ExtractError(_nothing(dataset, scan, table, flat=split_files is not None))
    return Listing(
        videos=videos,
        scheme=scheme,
        coverage=count_coverage(videos, table),
        ignored=scan.ignored,
        absent=tuple(absent),
        notes=notes + absent_notes(absent) + scan.notes(),
    )


def _walk(scan: FolderScan, table: SplitTable, *, flat: bool) -> list[Found]:
    """What lies in the root and in its folders train, val and test, if it has them."""
    classes = class_spellings(table)
    pending, found = [scan.root], []
    while pending:
        folder = pending.pop(0)
        folders, files = scan.entries(folder)
        for path in folders:
            match = classes.find(path.name)
            if match:
                found += _in_class(scan, path, match[0])
            elif folder == scan.root and fold(path.name) in SPLITS:
                pending.append(path)
            elif flat:
                found.append(Found(path, None))
            else:
                scan.ignore(UNKNOWN, path)
        for path in files:
            if flat and path.suffix.lower() in VIDEO_SUFFIXES:
                found.append(Found(path, None))
            else:
                scan.ignore(STRAY, path)
    return found


def _in_class(scan: FolderScan, folder: Path, owner: SplitClass) -> list[Found]:
    videos = [Found(path, owner) for path in scan.videos(folder)]
    if not videos:
        scan.ignore(EMPTY, folder)
    return videos


def _all_in_folders(dataset: str, scan: FolderScan, found: Sequence[Found]) -> list[Video]:
    """Every video in a class's folder, its key in the data set's own spelling."""
    videos, first = [], {}
    for item in found:
        if item.owner is not None:
            stem = canonical_stem(dataset, item.owner.name, stem_of(item.path.name))
            video = _video(dataset, scan, item.path, item.owner, stem)
            # Not only equal keys: names that differ in case or spaces are one published video too.
            twin = first.setdefault(fold(video.key), video)
            if twin is not video:
                raise ExtractError(
                    f"'{twin.path}' and '{video.path}' are both '{twin.key}'; rename one of them or move it away"
                )
            videos.append(video)
    return videos


def _listed(
    dataset: str, scan: FolderScan, found: Sequence[Found], table: SplitTable, split_files: Path
) -> tuple[list[Video], list[str], tuple[str, ...]]:
    """(the listed videos that are there, those that are not, notes on the lists)."""
    listed = read_split_files(split_files, table)
    places = match_listed(dataset, listed, [(item.owner, item.path) for item in found], root=scan.root)
    videos, absent = [], []
    for owner, stem in listed:
        path = places.get((owner.name, stem))
        # A folder outside the class folders was taken on trust of its name until now.
        if path is None or (path.is_dir() and not scan.is_frames(path)):
            absent.append(f"{owner.id}/{stem}")
        else:
            videos.append(_video(dataset, scan, path, owner, stem))
    used = set(places.values())
    for item in found:
        if item.path not in used:
            scan.ignore(UNLISTED, item.path)
    return videos, absent, differing_counts(listed, table)


def _video(dataset: str, scan: FolderScan, path: Path, owner: SplitClass, stem: str) -> Video:
    group = source_group(dataset, owner.name, stem)
    return Video(scan.relative(path), f"{owner.id}/{stem}", owner.name, owner.split, group)


def _nothing(dataset: str, scan: FolderScan, table: SplitTable, *, flat: bool) -> str:
    example = table.classes[0]
    layout = f"{LAYOUT}, or ROOT/VIDEO" if flat else LAYOUT
    return (
        f"nothing in {scan.root} matches {table.name}; expected {layout}, with classes such as '{example.id}'; "
        f"found {scan.counts() or 'nothing'}; give --root DIR, or use --dataset folder for other videos"
    )
