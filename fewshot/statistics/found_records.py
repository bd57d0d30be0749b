"""The result records below a folder, which anybody may have put there: bounded, JSON alone, each checked."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...cache.checks import brief, parse_json
from ...cache.errors import CacheError
from ..errors import FewShotError
from ..records import ResultRecord, record_of

_MOST_BYTES = 2**20
_MOST_FILES = 100_000
_DEEPEST = 12
RESULTS = "results"  # the folders that hold records


@dataclass(frozen=True)
class Found:
    """A record and where it is."""

    record: ResultRecord
    path: Path


@dataclass(frozen=True)
class Refused:
    """A file that is no record, and why: a sentence that names it."""

    path: Path
    reason: str


def find_records(folder: Path) -> tuple[list[Found], list[Refused]]:
    """The records of all folders `results` below, by path; links are not followed. Raises FewShotError where there is
    no such folder, or too much in it."""
    if not folder.is_dir():
        raise FewShotError(f"{folder} is no folder; give --runs DIR, where runs with results are")
    found, refused = [], []
    for path in sorted(_json_files(folder)):
        try:
            found.append(Found(_read(path), path))
        except (FewShotError, CacheError) as error:
            refused.append(Refused(path, brief(error, 300)))
        except OSError as error:
            refused.append(Refused(path, f"{path}: {error.strerror}"))
    return found, refused


def _json_files(folder: Path) -> Iterator[Path]:
    seen = 0
    for here, folders, names in os.walk(folder):
        place = Path(here)
        if len(place.relative_to(folder).parts) >= _DEEPEST:
            folders.clear()
        seen += len(names)
        if seen > _MOST_FILES:
            raise FewShotError(f"{folder} has more than {_MOST_FILES} files; give --runs a folder of results alone")
        if place.name == RESULTS:
            yield from (place / name for name in names if name.endswith(".json") and not (place / name).is_symlink())


def _read(path: Path) -> ResultRecord:
    with path.open("rb") as stream:
        data = stream.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise FewShotError(f"{path} is larger than {_MOST_BYTES} bytes, which no record is")
    record = record_of(parse_json(data, str(path)), path)
    numbers = [record.ci95, *record.ci95_clustered]
    if len(numbers) != 3 or not all(_is_share(number) for number in numbers):
        raise FewShotError(f"{path}: ci95 and ci95_clustered must be shares from 0 to 1, one and two")
    return record


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
