"""Attention from the tuples of a query to the tuples of a class, in bounded memory."""

import math
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# Bytes of attention and prototypes that exist at once.
_SLICE_BYTES = 128 * 2**20


class TupleCross(nn.Module):
    """Distances of queries to classes over ordered tuples of `cardinality` of `length` tokens of size `channels`.

    A linear map of a concatenation is a sum of one map for each place in the tuple. So each token is mapped once for
    each place, and tuples are sums of these: fewer products than tuples of w tokens would need.
    """

    chosen: Tensor

    def __init__(self, channels: int, length: int, cardinality: int, width: int) -> None:
        super().__init__()
        self.channels, self.cardinality, self.width = channels, cardinality, width
        self.key = nn.Linear(cardinality * channels, width)
        self.value = nn.Linear(cardinality * channels, width)
        self.norm = nn.LayerNorm(width)
        tuples = torch.tensor(list(combinations(range(length), cardinality)))  # [u, cardinality]
        self.tuples = len(tuples)
        # 1 where a tuple has a token at a place, so that one product sums whole tuples up.
        chosen = F.one_hot(tuples, length).transpose(1, 2).flatten(1)  # [u, n*cardinality]
        self.register_buffer("chosen", chosen.float(), persistent=False)

    def map(self, tokens: Tensor) -> Tensor:
        """Tokens [..., n, c] -> their share of keys and values at each place of a tuple, [..., n*w, 2*width]."""
        halves = zip(*(layer.weight.split(self.channels, dim=1) for layer in (self.key, self.value)), strict=True)
        mapped = [
            torch.cat([tokens @ weight.T for weight in both], dim=-1) for both in halves
        ]  # [..., n, 2*width] each
        return torch.stack(mapped, dim=-2).flatten(-3, -2)

    def forward(self, support: Tensor, query: Tensor) -> Tensor:
        """Mapped support [b, way, shot, m, 2*width], query [b, q, m, 2*width] -> mean squared distance over tuples
        [b, q, way]."""
        keys, values = self._embed(support)  # [b, way, shot, u, width] each
        asked, wanted = self._embed(query)  # [b, q, u, width] each
        keys, values = keys.flatten(2, 3), values.flatten(2, 3)  # [b, way, shot*u, width]
        asked, wanted = asked.flatten(1, 2), wanted.flatten(1, 2)  # [b, q*u, width]
        b, way, n = keys.shape[:3]
        # |value - prototype|^2 needs inner products of values alone; few of them are less than the prototypes.
        with _exact(values):
            gram = values @ values.transpose(-1, -2) if 2 * n <= self.width else None  # [b, way, n, n]
        rows = max(1, _SLICE_BYTES // (4 * b * way * (n + (self.width if gram is None else 3 * n))))
        several = rows < asked.shape[1] and torch.is_grad_enabled()
        found = []
        for part in zip(asked.split(rows, dim=1), wanted.split(rows, dim=1), strict=True):
            if several:  # the slices are computed again for the gradient, so that not all are kept
                found.append(checkpoint(_distances, *part, keys, values, gram, use_reentrant=False))
            else:
                found.append(_distances(*part, keys, values, gram))
        return torch.cat(found, dim=2).unflatten(2, (-1, self.tuples)).mean(-1).transpose(1, 2)  # [b, q, way]

    def _embed(self, mapped: Tensor) -> tuple[Tensor, Tensor]:
        """Mapped tokens [..., m, 2*width] -> key and value of each tuple, [..., u, width] each."""
        key, value = (self.chosen.to(mapped.dtype) @ mapped).chunk(2, dim=-1)  # [..., u, width] each
        return self.norm(key + self.key.bias), value + self.value.bias


def _distances(asked: Tensor, wanted: Tensor, keys: Tensor, values: Tensor, gram: Tensor | None) -> Tensor:
    """asked, wanted [b, rows, width], keys, values [b, way, n, width] -> squared distances [b, way, rows].

    gram [b, way, n, n]: inner products of the values, where these are to be used.
    """
    scaled = _products(asked, keys) / math.sqrt(keys.shape[-1])
    attention = torch.softmax(scaled, dim=-1, dtype=values.dtype)  # [b, way, rows, n]
    with _exact(values):
        if gram is None:
            return (wanted.unsqueeze(1) - attention @ values).square().sum(-1)
        crossed = attention @ gram - 2 * _products(wanted, values)  # [b, way, rows, n]
        return wanted.square().sum(-1).unsqueeze(1) + (attention * crossed).sum(-1)


def _exact(values: Tensor) -> torch.autocast:
    """A context without half precision: a small distance is what large products leave of each other."""
    return torch.autocast(values.device.type, enabled=False)


def _products(queries: Tensor, classes: Tensor) -> Tensor:
    """Inner products [b, way, rows, n] of queries [b, rows, d] and classes [b, way, n, d], without copies of either."""
    found = queries @ classes.flatten(1, 2).transpose(1, 2)  # [b, rows, way*n]
    return found.unflatten(2, classes.shape[1:3]).transpose(1, 2)
