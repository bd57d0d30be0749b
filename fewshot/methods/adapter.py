"""An adapter in front of any method: the part of fine-tuning that frozen cubes still allow."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cubes.bank import FeatureBank
from ..episodes.episode import Episode
from ..episodes.randomness import EpisodeRandom
from .base import Method


class Adapter(nn.Module):
    """R <- R + W2 relu(W1 R) at each position, W1: c -> c/4, W2: c/4 -> c, no biases.

    W2 starts at zero, so the adapter starts as the identity. It is our addition (no paper's), after the residual
    adapters of Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017.
    State: down.weight [c/4, c], up.weight [c, c/4].
    """

    def __init__(self, channels: int, *, reduction: int = 4) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.down = nn.Linear(channels, inner, bias=False)
        self.up = nn.Linear(inner, channels, bias=False)
        nn.init.kaiming_normal_(self.down.weight, nonlinearity="relu")
        nn.init.zeros_(self.up.weight)

    def forward(self, cubes: Tensor) -> Tensor:
        """Cubes [..., c, t, h, w] -> the same shape."""
        positions = cubes.flatten(-3)  # [..., c, L]
        down, up = self.down.weight.to(cubes.dtype), self.up.weight.to(cubes.dtype)
        return cubes + (up @ F.relu(down @ positions)).view(cubes.shape)


class Adapted(Method):
    """A method behind an adapter; made by `Method.build(..., adapter=True)`. State: adapter.*, method.*."""

    def __init__(self, method: Method, *, channels: int) -> None:
        super().__init__()
        self.adapter, self.method = Adapter(channels), method
        self.needs, self.defaults = method.needs, method.defaults
        self.draws, self.ordered = method.draws, method.ordered
        self.fits, self.episodic = method.fits, method.episodic

    def describe(self) -> dict[str, Any]:
        """The inner method's keywords, with the adapter on."""
        return {**self.method.describe(), "adapter": True}

    def note(self) -> str:
        """The inner method's."""
        return self.method.note()

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        return self.method(self._adapt(episode))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """The inner method's loss on adapted cubes."""
        return self.method.loss(self._adapt(episode), smoothing=smoothing)

    @torch.no_grad()
    def calibrate(self, cubes: Tensor) -> None:
        """Let the inner method see adapted cubes [n, c, t, h, w]."""
        self.method.calibrate(self.adapter(cubes))

    def fit(self, bank: FeatureBank, rng: np.random.Generator) -> None:
        """Not episodic, so on the cubes as they are."""
        self.method.fit(bank, rng)

    def score(self, episode: Episode, random: EpisodeRandom) -> Tensor:
        """Logits [b, q, way] at test time."""
        return self.method.score(self._adapt(episode), random)

    def attention(self, episode: Episode) -> dict[str, Tensor]:
        """The inner method's maps."""
        return self.method.attention(self._adapt(episode))

    def _adapt(self, episode: Episode) -> Episode:
        return replace(episode, support=self.adapter(episode.support), query=self.adapter(episode.query))
