"""Chamfer++: clips of frames in order, each matched with the most similar one of all of a class's shots."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_count, require_number
from .readout import sequences


class ChamferPlusPlus(Method):
    """Bertrand, Kalantidis, Tolias, "Rethinking matching-based few-shot action recognition", SCIA 2023.

    A clip is the concatenation of `length` frames in the order of time (all ordered tuples; fewer frames where t is
    smaller), at unit length. With s(i, j) the inner product of clip i of the query and clip j of any shot of the class,
    the logit is scale * (mean_i max_j s(i, j) + mean_j max_i s(i, j)) / 2: Chamfer matching, all shots jointly. Nothing
    is learnt, unless behind an adapter.

    Differs from the paper in: the backbone is frozen, and the projection that the paper learns is left to the adapter;
    scale is fixed. Written from recall of the paper.
    """

    readout = "seq"
    defaults = Defaults(optimiser="adam", lr=0.0001)

    def __init__(
        self, *, cube_shape: Sequence[int], n_train_classes: int, length: int = 3, scale: float = 10.0
    ) -> None:
        super().__init__()
        require_count("length", length)
        require_number("scale", scale, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.length, self.scale = length, scale
        t = self.cube_shape[1]
        self.clips = torch.tensor(list(combinations(range(t), min(length, t))))  # [n, length]

    def note(self) -> str:
        """Which clips a short cube leaves."""
        t = self.cube_shape[1]
        return f"cubes have t = {t}, so Chamfer++ matches clips of {t}" if t < self.length else ""

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = sequences(episode.support), sequences(episode.query)  # [b, way, shot, t, c], [b, q, t, c]
        (way, shot, t), clips = support.shape[1:4], self.clips.to(query.device)
        frames = query.flatten(1, 2) @ support.flatten(1, 3).transpose(1, 2)  # [b, q*t, way*shot*t]
        frames = frames.unflatten(1, (-1, t)).unflatten(3, (way, shot, t))  # [b, q, t, way, shot, t]
        # A clip's inner product with another is the sum of those of their frames, place by place.
        alike = sum(frames.index_select(2, place).index_select(5, place) for place in clips.T)
        lengths = self._lengths(query)[:, :, :, None, None, None] * self._lengths(support)[:, None, None]
        alike = (alike / lengths).flatten(4)  # [b, q, n, way, shot*n]
        return self.scale * (alike.amax(4).mean(2) + alike.amax(2).mean(3)) / 2

    def _lengths(self, frames: Tensor) -> Tensor:
        """Of the clips of frames [..., t, c]: [..., n]."""
        squares = frames.square().sum(-1)[..., self.clips.to(frames.device)].sum(-1)  # [..., n]
        return squares.clamp_min(1e-24).sqrt()
