"""Sources of videos inside episodes: clips cut from one recording, and episodes in which no query meets its own.

With the published test lists and random draws, 16 % of UCF101's 5-shot queries have a clip of their own recording
among the supports of their class. `source-disjoint` episodes are the random ones with those supports replaced, so that
both kinds ask the same queries about the same classes, and their scores can be compared pair by pair:

    random            walk: [g07_c02, g03_c01]   query g03_c04 of walk   <- g03 on both sides
    source-disjoint   walk: [g07_c02, g11_c05]   query g03_c04 of walk
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import FewShotError
from .episode import EpisodeRows
from .philox import random_words

RANDOM, DISJOINT = "random", "source-disjoint"
EPISODES_FROM = (RANDOM, DISJOINT)


def source_numbers(groups: Sequence[str]) -> np.ndarray:
    """int64 [n]: one number a source; a video whose source is not known ('') is a source of its own."""
    number: dict[str, int] = {}
    named = [number.setdefault(group or f"\0{row}", len(number)) for row, group in enumerate(groups)]
    return np.array(named, dtype=np.int64)


def shared_supports(rows: EpisodeRows, source: np.ndarray) -> np.ndarray:
    """bool [b, way, shot]: whether a support is of the same source as a query of its way. source: int64 [n]."""
    of_support, of_query = source[rows.support], source[rows.query]  # [b, way, shot], [b, q]
    ways = np.arange(rows.support.shape[1])
    shared = np.zeros(of_support.shape, dtype=bool)
    for asked, label in zip(of_query.T, rows.labels.T, strict=True):  # [b] each
        shared |= (ways == label[:, None])[..., None] & (of_support == asked[:, None, None])
    return shared


def shared_queries(rows: EpisodeRows, source: np.ndarray) -> np.ndarray:
    """bool [b, q]: whether a query is of the same source as a support of its way."""
    of_way = np.take_along_axis(source[rows.support], rows.labels[..., None], axis=1)  # [b, q, shot]
    return (of_way == source[rows.query][..., None]).any(2)


def without_shared_sources(
    rows: EpisodeRows, first: int, *, source: np.ndarray, members: Sequence[np.ndarray], key: tuple[int, int]
) -> EpisodeRows:
    """The episodes first, first + 1, ... with each support that shares a query's source replaced.

    members: positions of each class's videos in the order of their keys. In an episode, ways and their places go in
    order; place j of way w takes word w * shot + j of the stream `key`: it draws uniformly from the way's videos that
    are of no source of its queries and not among its supports. As the kept supports are a uniform choice of those
    videos already, the supports are a uniform choice of shot of them. Raises FewShotError when there are too few.
    """
    shared = shared_supports(rows, source)  # [b, way, shot]
    affected = np.flatnonzero(shared.any((1, 2)))
    _, way, shot = rows.support.shape
    words = random_words(key, (affected + first).astype(np.uint64), way * shot).reshape(-1, way, shot)
    support = rows.support.copy()  # [b, way, shot]
    for n, episode in enumerate(affected.tolist()):
        for w in np.flatnonzero(shared[episode].any(1)).tolist():
            asked = source[rows.query[episode][rows.labels[episode] == w]]
            kept = support[episode, w][~shared[episode, w]]
            videos = members[rows.classes[episode, w]]
            left = videos[~np.isin(source[videos], asked) & ~np.isin(videos, kept)].tolist()
            for j in np.flatnonzero(shared[episode, w]).tolist():
                if not left:
                    raise FewShotError(
                        f"shot ({shot}) needs more videos of other sources than the queries' in a class of episode "
                        f"{first + episode}; lower --shot or --queries, or leave --episodes-from source-disjoint out"
                    )
                support[episode, w, j] = left.pop(int(words[n, w, j]) * len(left) >> 64)
    return replace(rows, support=support)
