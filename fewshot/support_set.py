"""A head with its support set at hand: scores any number of new videos against classes that do not change."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .episodes.episode import Episode
from .episodes.randomness import EpisodeRandom
from .errors import FailedError
from .methods.base import Method
from .related import RelatedEpisode
from .relation import RelationMaps, self_maps

_BLOCK_BYTES = 64 * 2**20  # float32 cubes read at once
_KEPT_BYTES = 256 * 2**20  # relation maps of classes with themselves that are kept
_AXES = {"vec": (-3, -2, -1), "seq": (-2, -1)}  # that a head of this readout takes the mean over


class SupportSet:
    """A method in evaluation mode and the cubes of its classes' examples.

    cubes: float16 [n, c, t, h, w]; ways: [n], the way (0, 1, ...) of each, and every way has one. Classes may have
    different numbers of examples: a head that reads the mean cube of a class gets the mean of those it has; for any
    other the examples of a class are repeated in turn until it has as many as the largest.
    """

    def __init__(
        self, method: Method, cubes: np.ndarray, ways: Sequence[int], *, device: torch.device | str = "cpu"
    ) -> None:
        self.device = torch.device(device)
        self.method = method.to(self.device).eval()
        self._ways = np.asarray(ways, np.int64)  # [n]
        self._members = [np.flatnonzero(self._ways == way) for way in range(int(self._ways.max()) + 1)]
        self._cube_shape = cubes.shape[1:]
        whole = method.readout == "cube"
        self._examples = torch.from_numpy(cubes) if whole else self._reduced(cubes)  # [n, c, t, h, w], or its means

    @property
    def way(self) -> int:
        """Classes."""
        return len(self._members)

    def score(self, cubes: np.ndarray) -> np.ndarray:
        """Logits float32 [q, way] of videos, float16 [q, c, t, h, w]; each video is an episode of its own."""
        queries = self._reduced(cubes) if self.method.readout != "cube" else torch.from_numpy(cubes)
        return self._finite([self._score(query, None) for query in queries])

    def attention(self, cube: np.ndarray) -> dict[str, np.ndarray]:
        """The head's maps of a video float16 [c, t, h, w], as `Method.attention` gives them, without their first axis;
        {} for a head that has none. A class is the mean of its examples where the head reads it so."""
        asked = torch.from_numpy(cube).to(self.device, torch.float32)[None, None]  # [1, 1, c, t, h, w]
        if self.method.readout != "cube":
            return {}
        with torch.no_grad():
            if self.method.reads_maps:
                support = self._means.unflatten(-1, self._cube_shape[1:])[None, :, None]  # [1, way, 1, c, t, h, w]
            else:
                support = self._support
            maps = self.method.attention(Episode(support, asked, *self._unknown()))
        return {name: map_[0].float().cpu().numpy() for name, map_ in maps.items()}

    def leave_one_out(self, most: int) -> tuple[np.ndarray, np.ndarray]:
        """(logits float32 [m, way], ways int64 [m]) of the examples, each against the others without it.

        Those of classes with two examples or more, and of these at most `most`, evenly spread.
        """
        several = [n for n in range(len(self._ways)) if len(self._members[self._ways[n]]) > 1]
        if len(several) > most:
            several = [several[place] for place in np.linspace(0, len(several) - 1, most).astype(int)]
        logits = [self._score(self._examples[n], n) for n in several]
        return self._finite(logits), self._ways[several]

    def _score(self, query: Tensor, without: int | None) -> Tensor:
        """Logits [way] of a video [c, t, h, w], against the examples without one of them."""
        asked = query.to(self.device, torch.float32)[None, None]  # [b, q, c, t, h, w], both 1
        with torch.no_grad():  # not inference_mode: a head that fits per episode must be able to undo it
            if self.method.reads_maps:
                return self._score_maps(asked, without)[0, 0]
            support = self._support if without is None else self._gather(without)
            return self.method.score(Episode(support, asked, *self._unknown()), EpisodeRandom())[0, 0]

    def _unknown(self) -> tuple[Tensor, Tensor]:
        """Labels [1, 1] and class ids [1, way] of an episode about which nothing is known."""
        labels = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        return labels, torch.full((1, self.way), -1, device=self.device)

    def _score_maps(self, asked: Tensor, without: int | None) -> Tensor:
        """Logits [1, 1, way] from relation maps."""
        if without is None:
            return self._related(asked)
        way = int(self._ways[without])
        rest = np.setdiff1d(self._members[way], [without])
        self._set_class(way, rest)  # and back: copies of a thousand classes would cost more than their scores
        try:
            return self._related(asked)
        finally:
            self._set_class(way, self._members[way])

    def _set_class(self, way: int, rows: np.ndarray) -> None:
        """Let some examples stand for a class."""
        own = self._class_self
        self._means[way] = self._mean(rows)
        if own is not None:
            own[way] = self_maps(self._means[way])

    def _related(self, asked: Tensor) -> Tensor:
        """Logits [1, 1, way] of a video [1, 1, c, t, h, w] from its relation maps with the classes."""
        classes, own = self._means, self._class_self  # [way, c, L], [way, L, L]
        queries = asked.flatten(3)  # [1, 1, c, L]
        maps = RelationMaps(classes[None], queries, class_self=None if own is None else own[None])
        labels, ids = self._unknown()
        shape: tuple[int, int, int, int] = tuple(self.method.describe()["cube_shape"])
        return self.method.score_maps(RelatedEpisode(maps, classes[None], queries, labels, ids, shape))

    @cached_property
    def _support(self) -> Tensor:
        """[1, way, shot, c, t, h, w] for heads that read examples one by one."""
        return self._gather(None)

    def _gather(self, without: int | None) -> Tensor:
        members = [rows if without is None else rows[rows != without] for rows in self._members]
        shot = max(map(len, members))
        places = np.stack([np.resize(rows, shot) for rows in members])  # [way, shot]
        chosen = self._examples[torch.from_numpy(places.ravel())].to(self.device, torch.float32)
        return chosen.unflatten(0, places.shape)[None]  # [1, way, shot, c, t, h, w]

    @cached_property
    def _means(self) -> Tensor:
        """Mean cubes of the classes, [way, c, L]."""
        return torch.stack([self._mean(rows) for rows in self._members])

    def _mean(self, rows: np.ndarray) -> Tensor:
        """The mean cube [c, L] of some examples."""
        return self._examples[torch.from_numpy(rows)].to(self.device, torch.float32).mean(0).flatten(1)

    @cached_property
    def _class_self(self) -> Tensor | None:
        """[way, L, L], None where they would be too large to keep."""
        size = self._means.shape[-1]
        return None if 4 * self.way * size**2 > _KEPT_BYTES else self_maps(self._means)

    def _reduced(self, cubes: np.ndarray) -> Tensor:
        """What the head reads of cubes float16 [n, c, t, h, w]: float32 [n, c, t or 1, 1, 1]."""
        each = max(1, _BLOCK_BYTES // (4 * int(np.prod(self._cube_shape))))
        blocks = [torch.from_numpy(cubes[start : start + each]) for start in range(0, len(cubes), each)]
        return torch.cat([block.float().mean(_AXES[self.method.readout], keepdim=True) for block in blocks])

    def _finite(self, logits: list[Tensor]) -> np.ndarray:
        found = torch.stack(logits).float().cpu().numpy() if logits else np.zeros((0, self.way), np.float32)
        if not np.isfinite(found).all():
            raise FailedError("the scores are not finite; the head's weights are unusable, train again")
        return found
