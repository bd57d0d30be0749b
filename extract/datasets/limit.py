"""`--limit N`: a few videos of everything."""

from collections import defaultdict

from ...cache.index import SPLITS, VideoIndex
from ..errors import ExtractError


def spread_rows(index: VideoIndex, limit: int) -> list[int]:
    """Rows of `limit` videos, rising: the splits take turns, and within a split its classes do.

    It depends on the index and the limit alone, and a larger limit only adds videos.
    """
    if limit < 1:
        raise ExtractError(f"limit ({limit}) must be at least 1")
    queues = [queue for split in SPLITS if (queue := _by_turns(index, split))]
    chosen: list[int] = []
    for turn in range(max(map(len, queues), default=0)):
        chosen += [queue[turn] for queue in queues if turn < len(queue)]
    return sorted(chosen[:limit])


def _by_turns(index: VideoIndex, split: str) -> list[int]:
    """Rows of a split: the first video of each class, then the second of each, and so on."""
    seen: dict[str, int] = defaultdict(int)
    rank = {}
    for row, (class_name, of_split) in enumerate(zip(index.classes, index.splits, strict=True)):
        if of_split == split:
            rank[row] = seen[class_name]
            seen[class_name] += 1
    return sorted(rank, key=lambda row: (rank[row], row))
