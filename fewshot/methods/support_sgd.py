"""Stochastic gradient descent on the supports of many episodes at once, without ever holding the weights.

Whatever classifier descends on n support vectors s_i, the weights of a class stay u = a w_0 + sum_i A_i s_i, w_0 being
the initial ones. So only a, A and the inner products u.s_i are moved, which needs those of w_0, s_i and queries:
vectors [n + 1] instead of [c]. Episodes are the last axis, so that each of the many small operations is a long one.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..episodes.randomness import EpisodeRandom

MOMENTUM = DAMPENING = 0.9
WEIGHT_DECAY = 0.001


def draw(random: EpisodeRandom, support: Tensor, *, epochs: int) -> tuple[Tensor, Tensor, Tensor]:
    """What is random in the fits of b episodes with support [b, way, shot, c].

    Initial weights [b, way, c] and biases [b, way], uniform in +-1/sqrt(c), and the supports in the order in which each
    epoch takes them, [epochs, n, b].
    """
    b, way, shot, c = support.shape
    n, size = way * shot, way * c + way
    numbers = np.stack([random.of(i).random(size + epochs * n, dtype=np.float32) for i in range(b)])
    order = numbers[:, size:].reshape(b, epochs, n).argsort(axis=-1, kind="stable").transpose(1, 2, 0)
    first = torch.from_numpy(numbers[:, :size]).to(support).mul_(2).sub_(1).div_(c**0.5)  # [b, way*c + way]
    weight, bias = first.split([way * c, way], dim=1)
    return weight.view(b, way, c), bias, torch.from_numpy(order.copy()).to(support.device)


def mini_batches(order: Tensor, gram: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """order [epochs, n, b], gram [n, n, b] -> of each step the supports [m, b] and their rows of gram [m, n, b]."""
    for places in order:
        rows = gram.gather(0, places.unsqueeze(1).expand_as(gram))  # [n, n, b]
        yield from zip(places.split(size), rows.split(size), strict=True)


class SupportSGD:
    """SGD with momentum, dampening (the first step has none) and weight decay, of PyTorch, on given tensors."""

    def __init__(self, *values: Tensor, lr: float) -> None:
        self.values, self.lr = list(values), lr
        self._moved: list[Tensor] | None = None

    def step(self, *gradients: Tensor) -> None:
        """Move the values."""
        decayed = [torch.add(g, value, alpha=WEIGHT_DECAY) for g, value in zip(gradients, self.values, strict=True)]
        if self._moved is not None:
            decayed = [torch.lerp(m, g, 1 - DAMPENING) for m, g in zip(self._moved, decayed, strict=True)]
        self._moved = decayed
        self.values = [torch.sub(value, m, alpha=self.lr) for value, m in zip(self.values, decayed, strict=True)]


def spread(values: Tensor, places: Tensor, n: int) -> Tensor:
    """values [way, m, b] at the supports places [m, b], nothing elsewhere: [way, n, b]."""
    way, _, b = values.shape
    return values.new_zeros(way, n, b).scatter(1, places.expand_as(values), values)


def reach(values: Tensor, rows: Tensor) -> Tensor:
    """Sums of rows [m, n, b] of gram, weighted by values [way, m, b]: [way, n, b]."""
    total = values[:, :1] * rows[0]
    for value, row in zip(values.unbind(1)[1:], rows[1:], strict=True):  # few; a sum of all products is slower
        total = torch.addcmul(total, value.unsqueeze(1), row)
    return total


def products(one: Tensor, other: Tensor) -> Tensor:
    """Inner products [b, n, m] of one [b, n, c] and other [b, m, c], in the precision of both."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.transpose(1, 2)
