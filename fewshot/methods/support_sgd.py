"""Stochastic gradient descent on the supports of many episodes at once, without ever holding the weights.

Whatever classifier descends on n support vectors s_i, the weights of a class stay a w_0 + sum_i A_i s_i, w_0 being the
initial ones. So only a, A and inner products of w_0, s_i and queries are needed: vectors [n + 1] instead of [c].
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOMENTUM = DAMPENING = 0.9
WEIGHT_DECAY = 0.001


@dataclass(frozen=True, eq=False)
class Draws:
    """What is random in the fits of b episodes. weight [b, way, c] and bias [b, way]: initial values, uniform in
    +-1/sqrt(c); batch [b, epochs, n]: in which mini-batch of an epoch a support is."""

    weight: Tensor
    bias: Tensor
    batch: Tensor


def draw(rng: np.random.Generator, support: Tensor, *, epochs: int, mini_batch: int) -> Draws:
    """Draws for support [b, way, shot, c]; an episode takes its numbers after those of the episodes before it."""
    b, way, shot, c = support.shape
    n = way * shot
    numbers = rng.random((b, way * c + way + epochs * n), dtype=np.float32)
    weight, bias, order = np.split(numbers, [way * c, way * c + way], axis=1)
    ranks = order.reshape(b, epochs, n).argsort(axis=-1, kind="stable").argsort(axis=-1)  # [b, epochs, n]
    scaled = ((2 * part - 1) / np.sqrt(c) for part in (weight.reshape(b, way, c), bias))
    first, second = (torch.from_numpy(part).to(support) for part in scaled)
    return Draws(first, second, torch.from_numpy(ranks // mini_batch).to(support.device))


def shares(batch: Tensor, dtype: torch.dtype) -> Tensor:
    """batch [b, epochs, n] -> the weight of each support in the loss of each step, [epochs * steps, b, 1, n]."""
    steps = int(batch.max()) + 1
    member = batch.unsqueeze(2) == torch.arange(steps, device=batch.device).view(-1, 1)  # [b, epochs, steps, n]
    weights = member.to(dtype) / member.sum(-1, keepdim=True)
    return weights.flatten(1, 2).transpose(0, 1).unsqueeze(2)  # [epochs * steps, b, 1, n]


class MomentumSGD:
    """SGD with momentum, dampening (the first step has none) and weight decay, of PyTorch, on given tensors."""

    def __init__(self, *values: Tensor, lr: float) -> None:
        self.values, self.lr = list(values), lr
        self._moved: list[Tensor] | None = None

    def step(self, *gradients: Tensor) -> None:
        """Move the values."""
        decayed = [g + WEIGHT_DECAY * value for g, value in zip(gradients, self.values, strict=True)]
        if self._moved is None:
            self._moved = decayed
        else:
            self._moved = [MOMENTUM * m + (1 - DAMPENING) * g for m, g in zip(self._moved, decayed, strict=True)]
        self.values = [value - self.lr * m for value, m in zip(self.values, self._moved, strict=True)]


def one_hot_ways(support: Tensor) -> Tensor:
    """The ways of support [b, way, shot, c], flattened: [way, way*shot], 1 where a support is of a way."""
    way, shot = support.shape[1:3]
    return torch.eye(way, device=support.device, dtype=support.dtype).repeat_interleave(shot, dim=1)
