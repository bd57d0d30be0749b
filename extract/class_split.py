"""Train, val and test classes for a folder that does not say: chosen by a seed, the same on every machine."""

import hashlib
from collections.abc import Iterable

# Episodes are 5-way by default, so each part gets five classes; with fewer there is nothing to train on.
LEAST_CLASSES = 15


def split_classes(classes: Iterable[str], seed: int) -> tuple[dict[str, str], str]:
    """(class -> split, suffix for the name of the split).

    With 15 classes or more, val and test get a fifth of them each and at least five; with fewer all are `test`.
    Classes are ranked by the sha256 of seed and name, so no library's random numbers decide, and a class added
    later moves few of the others.
    """
    names = set(classes)
    if len(names) < LEAST_CLASSES:
        return dict.fromkeys(names, "test"), "all-test"
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    part = max(5, len(names) // 5)
    cut = {"test": ranked[:part], "val": ranked[part : 2 * part], "train": ranked[2 * part :]}
    return {name: split for split, members in cut.items() for name in members}, f"seed{seed}"
