"""The index of a store: one row per video, in the order of the data set."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from .errors import CacheError

SPLITS = ("train", "val", "test")
# State of a row. It is never stored in the index: the shards' records are the only truth about what is done.
MISSING, DONE, FAILED = 0, 1, 2
STATE_NAMES = ("missing", "done", "failed")


@dataclass(frozen=True)
class VideoIndex:
    """Columns of equal length, one entry a video.

    paths: relative to the data set's root; keys: canonical and unique (published class / stem, or the path for
    folders and CSV files); classes; splits: `train`, `val` or `test`; groups: source group (UCF101's `g07`,
    HMDB51's film), '' where none is known.
    """

    paths: tuple[str, ...]
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.paths, self.keys, self.classes, self.splits, self.groups)}
        if len(lengths) != 1:
            raise CacheError(f"index columns must have one length, not {sorted(lengths)}")
        repeated = [key for key, count in Counter(self.keys).items() if count > 1]
        if repeated:
            raise CacheError(f"two videos have the key '{repeated[0]}'; rename one of them or leave it out")
        wrong = set(self.splits) - set(SPLITS)
        if wrong:
            raise CacheError(f"split '{sorted(wrong)[0]}' must be one of {', '.join(SPLITS)}")

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {self.splits.count(split)}" for split in SPLITS)
        return f"VideoIndex({len(self)} videos: {counts}; {len(set(self.classes))} classes)"

    def classes_of(self, split: str) -> list[str]:
        """The sorted class names of a split."""
        return sorted({c for c, s in zip(self.classes, self.splits, strict=True) if s == split})

    def to_columns(self) -> dict[str, tuple[str, ...]]:
        """Columns by the names used in the files."""
        return {
            "path": self.paths,
            "key": self.keys,
            "class": self.classes,
            "split": self.splits,
            "group": self.groups,
        }

    @classmethod
    def from_columns(cls, columns: dict[str, Any]) -> "VideoIndex":
        """Inverse of `to_columns`."""
        return cls(*(tuple(columns[name]) for name in ("path", "key", "class", "split", "group")))
