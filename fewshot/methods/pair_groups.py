"""Pairs of videos, grouped by one of them, so that a video's cube serves all of its pairs at once.

Six pairs whose first videos are 4, 7, 4, 9, 4, 7, two videos a group, at most two pairs a row:

    videos [4, 4]   members [[0, 2], [4, -]]
    videos [7, 9]   members [[1, 5], [3, -]]        - is padding, the number of pairs
"""

from collections.abc import Iterator

import numpy as np


def group_pairs(videos: np.ndarray, *, rows: int, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For pairs with one video each, int64 [pairs]: groups of (videos [v], members [v, n]), v <= rows, n <= most.

    members are pair numbers; rows that are shorter than the longest of their group are padded with `pairs`.
    """
    order = np.argsort(videos, kind="stable")  # pair numbers, by video
    starts = np.flatnonzero(np.diff(videos[order], prepend=-1))
    sizes = np.diff(starts, append=len(videos))
    # A video with many pairs takes several rows.
    pieces = [
        (s, min(most, start + size - s))
        for start, size in zip(starts, sizes, strict=True)
        for s in range(start, start + size, most)
    ]
    first, count = np.array(pieces, dtype=np.int64).reshape(-1, 2).T
    by_count = np.argsort(count, kind="stable")  # rows of one length side by side: little padding
    padded = np.append(order, len(videos))
    for begin in range(0, len(first), rows):
        chosen = by_count[begin : begin + rows]
        place = np.arange(count[chosen].max())  # [n]
        members = first[chosen, None] + place  # [v, n]
        members = padded[np.where(place < count[chosen, None], members, len(videos))]
        yield videos[order[first[chosen]]], members
