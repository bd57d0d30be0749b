"""The result records below a folder, which anybody may have put there: bounded, JSON alone, each checked."""

import io
import math
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.checks import brief, parse_json
from ...cache.errors import CacheError
from ...cache.label_overlap import NEAR, NONE, SAME
from ..errors import FewShotError
from ..records import Predictions, ResultRecord, predictions_of, record_of
from .metrics import episode_accuracy, mean_and_ci95

_MOST_BYTES = 2**20
_MOST_ANSWERS = 2**28  # bytes of predictions, unpacked
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
    """A file that is no record, or none to be believed, and why: a sentence that names it."""

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
        if RESULTS in (place.name, place.resolve().name):  # `.` has no name of its own
            yield from (place / name for name in names if name.endswith(".json") and not (place / name).is_symlink())


def check_answers(found: Found) -> Refused | None:
    """None where a record's score follows from the predictions beside it, else why it is not to be believed."""
    answers = read_answers(found)
    return answers if isinstance(answers, Refused) else None


def read_answers(found: Found) -> Predictions | Refused:
    """The predictions beside a record whose score follows from them, else why it is not to be believed."""
    record = found.record
    path = found.path.parent / record.predictions["path"]
    try:
        data = plain_bytes(path, _MOST_ANSWERS)
        _require_small(data, path)
        predictions = predictions_of(data, path, record.predictions["sha256"])
        _require_sound(predictions, path)
        accuracy, half = _score(predictions, record, path)
    except FewShotError as error:
        return Refused(found.path, brief(error, 300))
    except OSError as error:
        return Refused(found.path, f"{path}, the predictions of {found.path.name}: {error.strerror}")
    if math.isclose(accuracy, record.accuracy, abs_tol=1e-9) and math.isclose(half, record.ci95, abs_tol=1e-9):
        return predictions
    return Refused(found.path, f"{found.path}: accuracy and ci95 do not follow from {path.name}; evaluate again")


def _require_sound(predictions: Predictions, path: Path) -> None:
    """Raise FewShotError unless numbers of ways and classes are of those that there are, and logits are finite."""
    way, classes = predictions.logits.shape[1], len(predictions.class_names)
    below = {"label": way, "predicted": way, "classes": classes, "query_row": 2**62, "episode": 2**62}
    for name, most in below.items():
        numbers = getattr(predictions, name)
        if numbers.dtype.kind not in "iu" or (numbers.size and not 0 <= numbers.min() <= numbers.max() < most):
            raise FewShotError(f"{path}: {name} must be whole numbers from 0 to {most - 1}; evaluate again")
    if predictions.logits.dtype.kind != "f" or not np.isfinite(predictions.logits).all():
        raise FewShotError(f"{path}: logits must be finite numbers; evaluate again")


def _score(predictions: Predictions, record: ResultRecord, path: Path) -> tuple[float, float]:
    """Accuracy and ci95, once the predictions are of as many episodes and ways as the record says."""
    m, way = predictions.logits.shape
    if way != record.way or m == 0 or m % record.episodes:
        raise FewShotError(f"{path} is not of {record.episodes} {record.way}-way episodes, as its record says")
    try:
        correct = predictions.by_episode(predictions.correct)  # [e, q]
    except ValueError:
        raise FewShotError(f"{path}: its episodes differ in their number of queries") from None
    if len(correct) != record.episodes:
        raise FewShotError(f"{path} has {len(correct)} episodes, but its record says {record.episodes}")
    return mean_and_ci95(episode_accuracy(correct))


def _require_small(data: bytes, path: Path) -> None:
    """Raise FewShotError for an archive that unpacks to more than any predictions do."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError):
        return  # `predictions_of` says what is wrong
    if size > _MOST_ANSWERS:
        raise FewShotError(f"{path} unpacks to more than {_MOST_ANSWERS} bytes, which no predictions do")


def plain_bytes(path: Path, most: int) -> bytes:
    """The bytes of a plain file. Raises FewShotError for anything else or more than `most`, OSError for a link."""
    # Without O_NONBLOCK a named pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FewShotError(f"{path} must be a plain file")
        data = stream.read(most + 1)
    if len(data) > most:
        raise FewShotError(f"{path} is larger than {most} bytes, which none of its kind is")
    return data


def _read(path: Path) -> ResultRecord:
    record = record_of(parse_json(plain_bytes(path, _MOST_BYTES), str(path)), path)
    numbers = [record.ci95, *record.ci95_clustered]
    if len(numbers) != 3 or not all(_is_share(number) for number in numbers):
        raise FewShotError(f"{path}: ci95 and ci95_clustered must be shares from 0 to 1, one and two")
    if record.episodes < 2 or not all(_is_count(record.coverage.get(n)) for n in ("videos", "failed", "missing")):
        raise FewShotError(f"{path}: episodes must be 2 or more, and coverage the videos used, failed and missing")
    if not _is_pretraining(record.pretraining):
        raise FewShotError(f"{path}: pretraining must be data and overlap, as mastaf-fewshot evaluate writes them")
    return record


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_pretraining(value: dict[str, Any]) -> bool:
    if not {"data", "overlap"} <= set(value):
        return False
    data, overlap = value["data"], value["overlap"]
    if data is not None and not _are_words(data):
        return False
    return overlap is None or (isinstance(overlap, dict) and _is_overlap(overlap))


def _is_overlap(value: dict[str, Any]) -> bool:
    graded = all(_are_words(value.get(grade)) for grade in (SAME, NEAR, NONE))
    labels, accuracy = value.get("labels"), value.get("accuracy")
    named = isinstance(labels, dict) and isinstance(labels.get("file"), str)
    return graded and named and isinstance(accuracy, dict) and all(map(_is_part, accuracy.values()))


def _is_part(value: object) -> bool:
    """Whether it is the accuracy on some classes of a split, or None for none of them."""
    if value is None:
        return True
    if not isinstance(value, dict) or not _is_count(value.get("classes")) or not _is_share(value.get("accuracy")):
        return False
    interval = value.get("ci95_clustered")
    return isinstance(interval, list) and len(interval) == 2 and all(map(_is_share, interval))


def _are_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
