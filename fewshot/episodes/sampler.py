"""Which videos an episode holds: a pure function of the episode's number."""

from collections.abc import Sequence

import numpy as np

from ..errors import FewShotError
from .episode import EpisodeRows
from .philox import below, distinct, key_of, random_words
from .sources import DISJOINT, EPISODES_FROM, RANDOM, source_numbers, without_shared_sources

QUERY_MODES = ("single", "per_class")
_STREAM = "mastaf episodes 1"  # a new number here is a new set of episodes
_DISJOINT_STREAM = "mastaf source-disjoint 1"


class EpisodeSampler:
    """Draws episodes from the videos of one split.

    keys, classes: one entry a video, in any order. Classes stand in sorted order, and the videos of a class in the
    order of their keys, so that every store of the same videos gives the same episodes. Ways are a random ordered
    choice of classes; a class gives shot + queries videos without replacement, in random order. Query mode
    `single`: one query video in the whole episode, its way drawn uniformly; `per_class`: `queries` of each way,
    those of way 0 first.

    The recipe: the key is the sha256 of ("mastaf episodes 1", seed, split, way, shot, query_mode, queries); of episode
    i's random words, the first `way` choose classes, one the query's way (drawn in both modes), and then shot +
    queries of each way in turn its videos, support first. episodes_from `source-disjoint`: the same episodes, in
    which the supports that share a source (`groups`, one entry a video, '' where unknown) with a query of their way
    are replaced, by the stream of the key ("mastaf source-disjoint 1", the rest as above): `without_shared_sources`.

    Episode `i` depends on (seed, split, way, shot, query_mode, queries, i) and the keys, classes and, if disjoint,
    groups alone. Raises FewShotError when the split cannot give such episodes.
    """

    def __init__(
        self,
        *,
        keys: Sequence[str],
        classes: Sequence[str],
        split: str,
        way: int,
        shot: int,
        query_mode: str = "single",
        queries: int = 1,
        seed: int = 0,
        episodes_from: str = RANDOM,
        groups: Sequence[str] | None = None,
    ) -> None:
        _check_numbers(way=way, shot=shot, query_mode=query_mode, queries=queries, seed=seed)
        if len(keys) != len(classes):
            raise FewShotError(f"keys ({len(keys)}) and classes ({len(classes)}) must have one length")
        self.split, self.way, self.shot = split, way, shot
        self.query_mode, self.queries, self.seed = query_mode, queries, seed
        self.class_names = sorted(set(classes))
        self._members, self._starts, self._sizes = _group(keys, classes, self.class_names)
        self._check_split()
        named = (seed, split, way, shot, query_mode, queries)
        self._key, self._disjoint_key = key_of(_STREAM, *named), key_of(_DISJOINT_STREAM, *named)
        self._source = _sources(episodes_from, groups, len(keys), split)

    def _check_split(self) -> None:
        found, where = len(self.class_names), f"split '{self.split}'"
        if not found:
            raise FewShotError(f"{where} has no videos to draw episodes from; name another split, or add classes to it")
        if self.way > found:
            have = f"the {found} class{'es' if found > 1 else ''} of {where}"
            raise FewShotError(f"way ({self.way}) must be at most {have}; lower --way or add classes")
        need = self.shot + self.queries
        for name, size in zip(self.class_names, self._sizes, strict=True):
            if size < need:
                wanted = f"shot ({self.shot}) + queries ({self.queries}) need {need} videos a class"
                remedy = "lower --shot or --queries, or drop the class"
                raise FewShotError(f"{wanted}, but '{name}' of {where} has {size}; {remedy}")

    @property
    def queries_per_episode(self) -> int:
        """Query videos in one episode: 1 in mode `single`, way * queries in mode `per_class`."""
        return 1 if self.query_mode == "single" else self.way * self.queries

    def rows(self, start: int, count: int) -> EpisodeRows:
        """Episodes start .. start+count-1 as positions in the given keys."""
        if start < 0 or count < 0:
            raise FewShotError(f"start ({start}) and count ({count}) must not be negative")
        way, each = self.way, self.shot + self.queries
        numbers = np.arange(start, start + count, dtype=np.uint64)
        words = random_words(self._key, numbers, way + 1 + way * each)  # [b, way + 1 + way*each]
        classes = distinct(words[:, :way], len(self.class_names))  # [b, way]
        words_of_ways = words[:, way + 1 :].reshape(count, way, each)  # [b, way, each]
        places = distinct(words_of_ways, self._sizes[classes])  # [b, way, each], place within the class
        videos = self._members[self._starts[classes][..., None] + places]  # [b, way, each]
        support, rest = videos[..., : self.shot], videos[..., self.shot :]
        if self.query_mode == "single":
            labels = below(words[:, way : way + 1], way)  # [b, 1]
            query = np.take_along_axis(rest[..., 0], labels, axis=1)  # [b, 1]
        else:
            labels = np.tile(np.repeat(np.arange(way, dtype=np.int64), self.queries), (count, 1))  # [b, way*queries]
            query = rest.reshape(count, way * self.queries)  # [b, way*queries]
        drawn = EpisodeRows(support, query, labels, classes)
        if self._source is None:
            return drawn
        members = np.split(self._members, self._starts[1:])
        return without_shared_sources(drawn, start, source=self._source, members=members, key=self._disjoint_key)


def _sources(episodes_from: str, groups: Sequence[str] | None, count: int, split: str) -> np.ndarray | None:
    """The source of each video, int64 [count]; None where sources do not matter."""
    if episodes_from not in EPISODES_FROM:
        raise FewShotError(f"episodes_from ('{episodes_from}') must be one of {', '.join(EPISODES_FROM)}")
    if episodes_from == RANDOM:
        return None
    if groups is None or not any(groups):
        raise FewShotError(
            f"episodes_from ({DISJOINT}) needs the sources of the videos, but none is known of split '{split}'; leave "
            "it out, or extract a data set that has them (ucf101, hmdb51, or a CSV file with a column group)"
        )
    if len(groups) != count:
        raise FewShotError(f"groups ({len(groups)}) and keys ({count}) must have one length")
    return source_numbers(groups)


def _group(
    keys: Sequence[str], classes: Sequence[str], class_names: list[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions by class and key [n], and where each class starts and how many it has [n_classes]; int64."""
    number = {name: i for i, name in enumerate(class_names)}
    order = sorted(range(len(keys)), key=lambda row: (number[classes[row]], keys[row]))
    counts = np.bincount([number[name] for name in classes], minlength=len(class_names)).astype(np.int64)
    return np.array(order, dtype=np.int64), np.cumsum(counts) - counts, counts


def _check_numbers(*, way: int, shot: int, query_mode: str, queries: int, seed: int) -> None:
    for name, value in (("way", way), ("shot", shot), ("queries", queries)):
        if value < 1:
            raise FewShotError(f"{name} ({value}) must be at least 1")
    if query_mode not in QUERY_MODES:
        raise FewShotError(f"query_mode ('{query_mode}') must be one of {', '.join(QUERY_MODES)}")
    if query_mode == "single" and queries != 1:
        raise FewShotError(f"queries ({queries}) must be 1 in query mode 'single'; add --query-mode per_class")
    if not 0 <= seed < 2**64:
        raise FewShotError(f"seed ({seed}) must be from 0 to 2^64 - 1")
