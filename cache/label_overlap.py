"""What was found when a store's test classes were compared with the labels that its weights were pretrained on.

The header of a store is written once, and labels are often had later. So the finding is a small file of its own beside
the records: written whole or not at all, replaced by the next finding, and part of no digest.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from textwrap import wrap
from typing import Any, Self

from .checks import brief, fit_fields, json_text, require_keys
from .errors import CacheError, CorruptStoreError, StoppedError
from .files import Files, read_json
from .text import shown

SAME, NEAR, NONE = "same", "near", "none"
MOST_LABELS = 20  # named for one class; the others are counted
_ENTRY = ("grade", "why", "labels", "more")
_MAX_BYTES, _WIDTH = 64 << 20, 110


@dataclass(frozen=True, kw_only=True)
class LabelOverlap:
    """Which test classes are near-identical to a label of the pretraining data.

    labels_file: name of the list; labels_sha256: of its bytes; n_labels: different labels in it; rule: name of the
    rule that compared; notes: on how the list was read; classes: test class -> {grade: `same`, `near` or `none`; why:
    the step of the rule, '' for `none`; labels: the first MOST_LABELS that fit; more: how many others do}.
    """

    labels_file: str
    labels_sha256: str
    n_labels: int
    rule: str
    notes: tuple[str, ...]
    classes: dict[str, dict[str, Any]]

    def __post_init__(self) -> None:
        fit_fields(self)
        if self.n_labels < 1:
            raise CacheError(f"n_labels ({self.n_labels}) must be at least 1")
        for name, entry in self.classes.items():
            _check_entry(name, require_keys(entry, _ENTRY, f"the finding on '{brief(name)}'"))

    def graded(self, grade: str) -> list[str]:
        """The classes of a grade, in order."""
        return [name for name, entry in self.classes.items() if entry["grade"] == grade]

    @property
    def counts(self) -> dict[str, int]:
        """Classes by grade, and `all` of them."""
        return {grade: len(self.graded(grade)) for grade in (SAME, NEAR, NONE)} | {"all": len(self.classes)}

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values, with `counts` for readers; `from_json` is its inverse."""
        return json.loads(json.dumps(asdict(self))) | {"counts": self.counts}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a finding, refusing what is none (CacheError)."""
        found = require_keys(value, [*(f.name for f in fields(cls)), "counts"], "the finding on pretraining labels")
        overlap = cls(**{name: field for name, field in found.items() if name != "counts"})
        if found["counts"] != overlap.counts:
            raise CacheError("counts of the finding on pretraining labels are not those of its classes")
        return overlap

    def lines(self, facts: Any) -> list[str]:
        """The finding in words: how many, a line for each class that fits a label, and the others. facts: of the
        weights (`pretraining`, `pretraining_classes`), as far as anything is known."""
        counts, others = self.counts, self.graded(NONE)
        found = [
            f"{counts[SAME] + counts[NEAR]} of {counts['all']} test classes are named as a pretraining label or near "
            f"it: {counts[SAME]} same, {counts[NEAR]} near ({self.labels_file}, {self.n_labels} labels)",
            *(f"  {grade}  {self._words(name)}" for grade in (SAME, NEAR) for name in self.graded(grade)),
            *([f"  none  {', '.join(others)}"] if others else []),
            "  Words alone were compared. Synonyms are not seen (jump rope, skipping rope): look at `none` yourself.",
            *(f"  {note}" for note in (*self.notes, *_unlisted(facts, self.n_labels))),
        ]
        return [part for line in found for part in _wrapped(shown(line))]

    def _words(self, name: str) -> str:
        entry = self.classes[name]
        more = f" and {entry['more']} more" if entry["more"] else ""
        return f"{name}: {', '.join(entry['labels'])}{more} ({entry['why']})"


def pretraining_data(facts: Any) -> list[str] | None:
    """The data sets that the weights saw ([] for random weights), None where nothing is known. facts: of the weights,
    as a store's provenance has them; a stranger may have written it."""
    data = facts.get("pretraining") if isinstance(facts, Mapping) else None
    return [str(name) for name in data] if isinstance(data, list) else None


def _unlisted(facts: Any, n_labels: int) -> list[str]:
    if pretraining_data(facts) == []:
        return ["The weights are random: they saw none of these labels."]
    seen = facts.get("pretraining_classes") if isinstance(facts, Mapping) else None
    if isinstance(seen, int) and seen > n_labels:
        return [f"The weights saw {seen} classes, {seen - n_labels} more than the list has: those were not compared."]
    return []


def _wrapped(line: str) -> list[str]:
    return wrap(line, _WIDTH, subsequent_indent="        ", break_on_hyphens=False, break_long_words=False)


def read_overlap(
    files: Files, name: str, *, classes: Iterable[str], unwrap: Callable[[Any], Any]
) -> LabelOverlap | None:
    """The finding in the file `name`, None where there is none; CorruptStoreError unless it is on these classes."""
    try:
        found = LabelOverlap.from_json(unwrap(read_json(files, name, limit=_MAX_BYTES)))
        if set(found.classes) != set(classes):
            raise CorruptStoreError("it is on other classes than the store's test classes")
    except FileNotFoundError:
        return None
    except StoppedError:
        raise
    except (CacheError, OSError) as error:
        raise CorruptStoreError(
            f"the finding on pretraining labels ({files.where(name)}) is damaged: {brief(error, 200)}; "
            "delete that file, or run mastaf-extract with --labels again"
        ) from error
    return found


def write_overlap(files: Files, name: str, overlap: LabelOverlap, *, wrap: Callable[[Any], Any]) -> None:
    """Write the finding to the file `name`, whole or not at all."""
    files.write(name, [json_text(wrap(overlap.to_json()))])


def _check_entry(name: str, entry: dict[str, Any]) -> None:
    labels, more = entry["labels"], entry["more"]
    right = (
        entry["grade"] in (SAME, NEAR, NONE)
        and isinstance(entry["why"], str)
        and isinstance(labels, list)
        and all(isinstance(label, str) for label in labels)
        and isinstance(more, int)
        and more >= 0
        and (entry["grade"] == NONE) == (not labels)
    )
    if not right:
        raise CacheError(f"the finding on '{brief(name)}' must have a grade, and labels unless that is `{NONE}`")
