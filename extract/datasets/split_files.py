"""The published list files, which say which videos are in a split: one `class/video` a line."""

from collections.abc import Sequence
from pathlib import Path

from ...cache.index import SPLITS
from ..errors import ExtractError
from ..splits.table import SplitClass, SplitTable
from .naming import Spellings, some, stem_of

# The folder of tobyperrett/trx that holds each split's lists.
SOURCES = {
    "ucf101-arn": "ucf_ARN",
    "hmdb51-arn": "hmdb_ARN",
    "ssv2-cmn": "ssv2_CMN",
    "ssv2-otam": "ssv2_OTAM",
    "kinetics-cmn": "kinetics_CMN",
}


def class_spellings(table: SplitTable) -> Spellings[SplitClass]:
    """Looks up a class by its name or by its id in the lists."""
    return Spellings([(c.name, c) for c in table.classes] + [(c.id, c) for c in table.classes])


def where_to_get(table: SplitTable) -> str:
    """What to tell a user who has no list files."""
    source = SOURCES.get(table.name, table.name)
    return (
        "the published files trainlist*.txt, vallist*.txt and testlist*.txt, one `class/video` a line, "
        f"from github.com/tobyperrett/trx, folder splits/{source}"
    )


def read_split_files(folder: Path, table: SplitTable) -> list[tuple[SplitClass, str]]:
    """(class, published stem) of every video in the lists, in their order.

    ExtractError naming the file when one is missing or there are two, and file and line when a line is not
    `class/video`, its class is not in the split or in another part of it, or a video is listed twice.
    """
    classes = class_spellings(table)
    listed: list[tuple[SplitClass, str]] = []
    seen: dict[tuple[str, str], str] = {}
    for split in SPLITS:
        path = _list_file(Path(folder), split, table)
        for number, line in enumerate(_lines(path), start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            entry = _entry(line.strip(), split, classes, table, place)
            first = seen.setdefault((entry[0].name, entry[1]), place)
            if first != place:
                raise ExtractError(f"{place}: '{line.strip()}' stands already at {first}; drop one of the lines")
            listed.append(entry)
    return listed


def differing_counts(listed: Sequence[tuple[SplitClass, str]], table: SplitTable) -> tuple[str, ...]:
    """A note for each split whose lists do not name as many videos as were published."""
    notes = []
    for split in SPLITS:
        n_listed, published = sum(c.split == split for c, _ in listed), table.n_videos(split)
        if n_listed != published:
            notes.append(
                f"the {split} list names {n_listed} videos, but {table.name} was published with {published}: "
                "these are other lists"
            )
    return tuple(notes)


def _list_file(folder: Path, split: str, table: SplitTable) -> Path:
    found = sorted(folder.glob(f"{split}list*.txt"))
    if not found:
        raise ExtractError(f"--split-files ({folder}) has no {split}list*.txt; it must hold {where_to_get(table)}")
    if len(found) > 1:
        raise ExtractError(
            f"--split-files ({folder}) must hold one {split} list, but has {some([p.name for p in found])}; leave one"
        )
    return found[0]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ExtractError(f"{path} must be UTF-8 text with one `class/video` a line") from None


def _entry(
    line: str, split: str, classes: Spellings[SplitClass], table: SplitTable, place: str
) -> tuple[SplitClass, str]:
    class_name, slash, video = line.rpartition("/")
    if not slash or not class_name or not video:
        raise ExtractError(f"{place}: '{line}' must be `class/video`")
    match = classes.find(class_name)
    if match is None:
        raise ExtractError(
            f"{place}: class '{class_name}' is not in {table.name}; --split-files must hold {where_to_get(table)}"
        )
    if match[0].split != split:
        raise ExtractError(f"{place}: class '{class_name}' is in the {match[0].split} part of {table.name}")
    return match[0], stem_of(video)
