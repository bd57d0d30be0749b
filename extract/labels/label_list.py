"""Label lists of pretraining data: a text file with one class a line, in the forms in which such lists come."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ...cache.checks import brief
from ...cache.index import VideoIndex
from ...cache.label_overlap import LabelOverlap
from ..errors import ExtractError
from .label_rule import RULE, grade_classes

MAX_BYTES, MAX_LABELS, MAX_LENGTH = 16 << 20, 100_000, 500
_BEFORE = re.compile(r'"?\d+"?[\s,;:.)]+(?P<label>.+)')
_AFTER = re.compile(r'(?P<label>.+?)\s*[,;\t]\s*"?\d+"?')
_FORM = "must be text with one label a line"


@dataclass(frozen=True)
class LabelList:
    """The different labels of a file in their order. name: of the file; sha256: of its bytes; notes: what its user
    should know of how it was read."""

    name: str
    sha256: str
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()


def compare(known: LabelList, index: VideoIndex) -> LabelOverlap:
    """Which test classes of a data set are near-identical to a label: see label_rule.py. ExtractError without any."""
    classes = index.classes_of("test")
    if not classes:
        raise ExtractError("--labels looks at test classes, and this data set has none; leave it out")
    return LabelOverlap(
        labels_file=known.name,
        labels_sha256=known.sha256,
        n_labels=len(known.labels),
        rule=RULE,
        notes=known.notes,
        classes=grade_classes(classes, known.labels),
    )


def read_labels(path: Path) -> LabelList:
    """Read a label list: UTF-8, one label a line; blank lines are skipped, repeated labels left out.

    A number before or after the label in *every* line (`0,abseiling`, `0 abseiling`, `abseiling;0`) is taken for its
    index, and a first line of cells without one, before such lines, for a heading. Otherwise lines are taken whole:
    labels hold commas. ExtractError naming what is wrong with anything else.
    """
    if not path.exists():
        raise ExtractError(f"labels ({path}) does not exist; give the label list of the pretraining data, one a line")
    if path.is_dir():
        raise ExtractError(f"labels ({path}) {_FORM}, but it is a folder; give the file")
    with path.open("rb") as stream:
        data = stream.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ExtractError(
            f"labels ({path}) must be at most {MAX_BYTES >> 20} MB; is it a label list, one class a line?"
        )
    lines = _lines(data, path)
    _refuse_json(lines, path)
    labels, notes = _without_index(lines)
    for label in labels:
        if not any(c.isalpha() for c in label):
            raise ExtractError(f"labels ({path}) {_FORM}, and '{brief(label, 40)}' has no letters")
    unique = tuple(dict.fromkeys(labels))
    if len(unique) < len(labels):
        notes.append(f"{len(labels) - len(unique)} repeated labels left out")
    return LabelList(path.name, hashlib.sha256(data).hexdigest(), unique, tuple(notes))


def _lines(data: bytes, path: Path) -> list[str]:
    """The lines that are not blank, stripped. ExtractError for what is no short text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ExtractError(f"labels ({path}) {_FORM} in UTF-8: {error.reason} at byte {error.start}") from None
    if "\0" in text:
        raise ExtractError(f"labels ({path}) {_FORM}, but it is a binary file")
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line]
    if not lines:
        raise ExtractError(f"labels ({path}) {_FORM}, but it is empty")
    if len(lines) > MAX_LABELS:
        raise ExtractError(f"labels ({path}) must be at most {MAX_LABELS} lines, one a class, not {len(lines)}")
    for line in lines:
        if len(line) > MAX_LENGTH:
            raise ExtractError(
                f"labels ({path}) {_FORM}, and a line has {len(line)} characters (at most {MAX_LENGTH}): "
                f"'{brief(line, 40)}'"
            )
    return lines


def _refuse_json(lines: list[str], path: Path) -> None:
    # A label may begin with a bracket (`[Something] falling`), so the whole file decides.
    if lines[0][0] not in "[{":
        return
    try:
        json.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return
    raise ExtractError(f"labels ({path}) {_FORM}, but it is JSON; write its labels to a text file")


def _without_index(lines: list[str]) -> tuple[list[str], list[str]]:
    """(labels, notes) of lines that may all have an index."""
    notes = []
    for pattern, where in ((_BEFORE, "before"), (_AFTER, "after")):
        # Not in a list that merely begins its lines with spaces and numbers: a heading has cells too.
        for start in (0, 1) if re.search("[,;\t]", lines[0]) else (0,):
            found = [pattern.fullmatch(line) for line in lines[start:]]
            # One line alone may be a label with a number in it.
            if len(found) >= 2 and all(found):
                notes += [f"first line taken for a heading: '{brief(lines[0], 40)}'"] if start else []
                notes.append(f"the number {where} each label is taken for its index")
                lines = [match["label"].strip() for match in found if match]
                break
    return [_unquoted(line) for line in lines], notes


def _unquoted(cell: str) -> str:
    return cell[1:-1].replace('""', '"').strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell
