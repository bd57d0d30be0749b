"""Classes that are scored although training has seen them: the head's, or that of the backbone behind its cubes."""

from collections.abc import Mapping
from typing import Any

from ..cubes.bank import FeatureBank
from ..errors import FewShotError
from ..head import Head


def require_unseen(head: Head | None, bank: FeatureBank, *, allow: bool = False) -> list[str]:
    """The bank's classes that the head was trained on, or its cubes' backbone fine-tuned on, by name. Raises
    FewShotError unless there are none, or `allow`. head: None asks about the backbone alone.

    Data sets share classes under one name: nine test classes of ssv2-otam are train classes of ssv2-cmn.
    """
    if bank.split == "train":
        return []  # the score of a train split promises nothing about new classes
    by_head = {_folded(name) for name in head.train_class_ids} if head else set()
    by_backbone = {_folded(name) for name in _tuned_on(bank.store.header.provenance)}
    found = []
    for trained, who in ((by_head, "the run was trained on"), (by_backbone, "the backbone was fine-tuned on")):
        seen = [name for name in bank.class_names if _folded(name) in trained]
        if seen and not allow:
            shown = ", ".join(f"'{name}'" for name in seen[:3]) + (", ..." if len(seen) > 3 else "")
            raise FewShotError(
                f"{who} {len(seen)} of the {len(bank.class_names)} {bank.split} classes of {bank.store.path} ({shown}),"
                " so the score would not be one of new classes; test on another store, or add --allow-seen-classes, "
                "which the record then says"
            )
        found += seen
    return sorted(set(found))


def _tuned_on(provenance: Mapping[str, Any]) -> list[str]:
    """Names of the classes that `mastaf finetune` trained a store's weights on, whatever stands in its provenance."""
    facts = provenance.get("weights_facts")
    entries = _listed(facts, "classes_seen")
    return [name for entry in entries for name in _listed(entry, "classes") if isinstance(name, str)]


def _listed(value: Any, name: str) -> list[Any]:
    """The list of that name in a mapping, [] where there is none."""
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def _folded(name: str) -> str:
    """A class's name as two data sets may share it: `PlayingGuitar`, `playing guitar`."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())
