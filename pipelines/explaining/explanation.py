"""What a picture of attention shows: the videos of an episode as the backbone saw them, scores, and maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..errors import PipelineError
from .overlay import Pictures, Scale, lay_over, scale_of

SIDES = ("class", "query")


@dataclass(frozen=True, eq=False)
class Seen:
    """One video. name: its key or file; frames: what the backbone saw, uint8 RGB [m, size, size, 3]; note: '' or what
    was wrong with it."""

    name: str
    frames: Pictures
    note: str = ""


@dataclass(frozen=True, eq=False)
class Strip:
    """The frames of one video, plain or under a map. label: what is shown; pictures: uint8 RGB [m, size, size, 3]."""

    label: str
    pictures: Pictures


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """One episode and what a head made of it.

    head: the head in words; title: which episode; classes: name of each way; supports: of each way its shots; queries;
    labels: the true way of each query, None where nobody knows; logits: [q, way]; maps: by name, as `Method.attention`
    gives them, without their first axis: class_* [way, t, h, w] or [q, way, t, h, w], query_* [q, t, h, w] or [q, way,
    t, h, w]. A class's map is of the mean of its shots. calibrated: probabilities [q, way] where something calibrated
    the logits; verdicts: what is said of the first way of each query, `predicted` for all if there are none.
    """

    head: str
    title: str
    classes: Sequence[str]
    supports: Sequence[Sequence[Seen]]
    queries: Sequence[Seen]
    labels: Sequence[int | None]
    logits: NDArray[np.floating]
    maps: Mapping[str, NDArray[np.floating]]
    calibrated: NDArray[np.floating] | None = None
    verdicts: Sequence[str] = ()

    def __post_init__(self) -> None:
        q, way = self.logits.shape
        for name, map_ in self.maps.items():
            side, axes = name.partition("_")[0], map_.shape[:-3]
            if side not in SIDES or axes not in ((way if side == "class" else q,), (q, way)):
                raise PipelineError(
                    f"map '{name}' {map_.shape} must be class_* [way, t, h, w] or query_* [q, t, h, w], or either "
                    f"[q, way, t, h, w], with way {way} and q {q}"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """What follows `class_` and `query_` in the maps' names, in their order: ('self', 'cross') for MASTAF."""
        return tuple(dict.fromkeys(name.partition("_")[2] for name in self.maps))

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """Calibrated, else the softmax of the logits over ways, [q, way]."""
        if self.calibrated is not None:
            return self.calibrated.astype(np.float64)
        shifted = np.exp(self.logits.astype(np.float64) - self.logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    @property
    def probability_words(self) -> str:
        """What the probabilities are."""
        return "softmax of the logits, not calibrated" if self.calibrated is None else "probabilities, calibrated"

    def verdict(self, q: int) -> str:
        """What is said of a query's first way."""
        return self.verdicts[q] if self.verdicts else "predicted"

    def ranking(self, q: int) -> list[int]:
        """The ways of a query, best first; equal ones in the order of the episode."""
        return np.argsort(-self.logits[q], kind="stable").tolist()

    @property
    def scales(self) -> dict[str, Scale]:
        """Of each kind one scale, over both sides, all ways and all queries."""
        return {kind: scale for kind, (scale, _) in self._told.items()}

    @cached_property
    def _told(self) -> dict[str, tuple[Scale, dict[tuple[str, int, int], NDArray[np.float32]]]]:
        """Kind -> its scale, and (side, q, way) -> the map [t, h, w] in the scale's numbers."""
        found = {}
        for kind in self.kinds:
            maps = {place: map_ for side in SIDES for place, map_ in self._maps_of(side, kind)}
            scale, told = scale_of(*maps.values())
            found[kind] = scale, dict(zip(maps, told, strict=True))
        return found

    def _maps_of(self, side: str, kind: str) -> list[tuple[tuple[str, int, int], NDArray[np.floating]]]:
        map_ = self.maps.get(f"{side}_{kind}" if kind else side)
        if map_ is None:
            return []
        q, way = self.logits.shape
        if map_.ndim == 4:
            map_ = map_[None] if side == "class" else map_[:, None]  # [1, way, t, h, w] or [q, 1, t, h, w]
        every = np.broadcast_to(map_, (q, way, *map_.shape[2:]))  # [q, way, t, h, w]
        return [((side, i, n), every[i, n]) for i in range(q) for n in range(way)]

    def support_strips(self, q: int, way: int, shot: int) -> list[Strip | None]:
        """A support's frames, then under the map of each kind, None where the head has none for supports."""
        return self._strips(self.supports[way][shot], ("class", q, way))

    def query_strips(self, q: int, way: int) -> list[Strip | None]:
        """A query's frames, then under the map of each kind towards a way, None where there is none for queries."""
        return self._strips(self.queries[q], ("query", q, way))

    def _strips(self, seen: Seen, place: tuple[str, int, int]) -> list[Strip | None]:
        strips: list[Strip | None] = [Strip("frames", seen.frames)]
        for kind, (scale, told) in self._told.items():
            map_ = told.get(place)
            strips.append(None if map_ is None else Strip(label_of(kind), lay_over(seen.frames, map_, scale)))
        return strips


def label_of(kind: str) -> str:
    """A kind of map as it is written: A_self, A_cross."""
    return f"A_{kind}" if kind else "attention"
