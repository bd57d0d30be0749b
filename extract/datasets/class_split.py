"""Train, val and test classes for data that does not say: chosen by a seed, the same on every machine."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ...cache.index import SPLITS
from .videos import Video

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


def assign_splits(videos: Sequence[Video], scheme: str, seed: int) -> tuple[list[Video], str, str]:
    """(videos with a split for each class, name of the split, what to tell the user)."""
    split_of, suffix = split_classes((video.class_name for video in videos), seed)
    chosen = [replace(video, split=split_of[video.class_name]) for video in videos]
    counts = ", ".join(f"{split} {list(split_of.values()).count(split)}" for split in SPLITS)
    if suffix == "all-test":
        note = f"all {len(split_of)} classes are test classes (a train and val split needs {LEAST_CLASSES} or more)"
    else:
        note = f"classes split by seed {seed}: {counts}"
    return chosen, f"{scheme}-{suffix}", note
