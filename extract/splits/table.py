"""Reading the class tables of the published splits."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ...cache.console import unknown_name
from ...cache.index import SPLITS
from ..errors import ExtractError


@dataclass(frozen=True)
class SplitClass:
    """A class of a published split. id: what the list files call it (`test18`), or its name."""

    split: str
    name: str
    n_videos: int
    id: str


@dataclass(frozen=True)
class SplitTable:
    """A published split: which class is in which part, and how many videos it has."""

    name: str
    classes: tuple[SplitClass, ...]

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {self.n_videos(split)}" for split in SPLITS)
        return f"SplitTable({self.name}: {len(self.classes)} classes; videos {counts})"

    def of(self, split: str) -> list[SplitClass]:
        """The classes of a split, in the order of the list files."""
        return [c for c in self.classes if c.split == split]

    def n_videos(self, split: str) -> int:
        """Videos of a split."""
        return sum(c.n_videos for c in self.of(split))


@cache
def load_split(name: str) -> SplitTable:
    """The class table `name` (`hmdb51-arn`). ExtractError with the closest names when there is none."""
    folder = Path(__file__).parent
    names = sorted(path.stem for path in folder.glob("*.csv"))
    if name not in names:
        raise ExtractError(unknown_name("split", name, names))
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return SplitTable(
        name, tuple(SplitClass(r["split"], r["class"], int(r["n_videos"]), r.get("id") or r["class"]) for r in rows)
    )
