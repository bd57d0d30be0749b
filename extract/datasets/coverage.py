"""How much of a data set is there: counted per class, said per split."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ...cache.index import SPLITS
from ..splits.table import SplitTable
from .naming import some
from .videos import Video


def count_coverage(videos: Sequence[Video], table: SplitTable | None = None) -> tuple[dict[str, Any], ...]:
    """{split, class, found, expected} for each class of the published split, or of the videos (expected: None)."""
    found = Counter((video.split, video.class_name) for video in videos)
    if table is not None:
        wanted = [(c.split, c.name, c.n_videos) for split in SPLITS for c in table.of(split)]
    else:
        wanted = [(split, name, None) for split, name in sorted(found, key=lambda k: (SPLITS.index(k[0]), k[1]))]
    return tuple({"split": s, "class": c, "found": found[s, c], "expected": n} for s, c, n in wanted)


def coverage_lines(scheme: str, coverage: Sequence[dict[str, Any]]) -> list[str]:
    """One line a split: "hmdb51-arn test: 1291 of 1292, 'pour' is 1 short"."""
    return [_line(f"{scheme} {s}", rows) for s in SPLITS if (rows := [r for r in coverage if r["split"] == s])]


def _line(name: str, rows: Sequence[dict[str, Any]]) -> str:
    found = sum(row["found"] for row in rows)
    if rows[0]["expected"] is None:
        return f"{name}: {found} videos in {len(rows)} classes"
    line = f"{name}: {found} of {sum(row['expected'] for row in rows)}"
    absent = [row["class"] for row in rows if row["found"] == 0 < row["expected"]]
    differing = [row for row in rows if row["found"] not in (0, row["expected"])]
    parts = [_off(row) for row in differing[:3]]
    if len(differing) > 3:
        parts.append(f"{len(differing) - 3} more classes are incomplete")
    if absent:
        parts.append(
            "no class is there"
            if len(absent) == len(rows)
            else f"no videos of {len(absent)} classes: {some(absent, 3)}"
        )
    return ", ".join([line, *parts])


def _off(row: dict[str, Any]) -> str:
    missing = row["expected"] - row["found"]
    return f"'{row['class']}' is {missing} short" if missing > 0 else f"'{row['class']}' has {-missing} too many"
