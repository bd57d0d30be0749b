"""Three heads as one would write them from their equations: one episode, query and class at a time.

Each takes what it reads of an episode's videos, already averaged and in memory, support [way, shot, ...] and query
[q, ...], and gives logits [q, way].
"""

from itertools import combinations

import torch
from mastaf.fewshot.methods.trx import TRX
from torch import Tensor, nn
from torch.nn import functional as F


def trx(support: Tensor, query: Tensor, method: TRX) -> Tensor:
    """Sequences [way, shot, t, c] and [q, t, c]: tuples are concatenated, and a query meets one class at a time."""
    support, query = support + method.places, query + method.places
    total = support.new_zeros(len(query), len(support))
    for cross, cardinality in zip(method.crosses, method.used, strict=True):
        tuples = torch.tensor(list(combinations(range(query.shape[1]), cardinality)))  # [u, w]
        known, asked = support[:, :, tuples].flatten(-2), query[:, tuples].flatten(-2)  # [.., u, w*c]
        keys, values = cross.norm(cross.key(known)).flatten(1, 2), cross.value(known).flatten(1, 2)  # [way, shot*u, d]
        for i, one in enumerate(asked):
            key, value = cross.norm(cross.key(one)), cross.value(one)  # [u, d] each
            for n in range(len(support)):
                attention = torch.softmax(key @ keys[n].T / key.shape[-1] ** 0.5, dim=-1)  # [u, shot*u]
                total[i, n] += (value - attention @ values[n]).square().sum(-1).mean()
    return -total / len(method.used)


def otam(support: Tensor, query: Tensor, lam: float) -> Tensor:
    """Sequences [way, shot, t, c] and [q, t, c]: a path for each pair of videos, cell by cell."""
    logits = support.new_zeros(len(query), len(support))
    for i, one in enumerate(query):
        for n, shots in enumerate(support):
            costs = [1 - _cosines(one, shot) for shot in shots]  # [t, t] each
            logits[i, n] = -sum(_path(cost, lam) + _path(cost.T, lam) for cost in costs) / len(costs)
    return logits


def otam_pairs(support: Tensor, query: Tensor, lam: float) -> Tensor:
    """As `otam`, cell by cell too, but for all pairs of the episode at once."""
    cost = 1 - _cosines(query[:, None, None], support)  # [q, way, shot, t, t]
    both = [_path(part.movedim((-2, -1), (0, 1)), lam) for part in (cost, cost.transpose(-1, -2))]
    return -(both[0] + both[1]).mean(-1)


def _cosines(one: Tensor, other: Tensor) -> Tensor:
    lengths = one.norm(dim=-1).unsqueeze(-1) * other.norm(dim=-1).unsqueeze(-2)
    return one @ other.transpose(-1, -2) / (lengths + 0.01)


def _path(cost: Tensor, lam: float) -> Tensor:
    """Soft cost [...] of the best path through cost [rows, columns, ...]."""
    rows, columns = cost.shape[:2]
    nothing = torch.zeros_like(cost[0, 0])
    gamma = [[nothing] * (columns + 2) for _ in range(rows)]
    for m in range(1, columns + 2):
        gamma[0][m] = gamma[0][m - 1] + (cost[0, m - 1] if m <= columns else nothing)
    for row in range(1, rows):
        for m in range(1, columns + 2):
            before = [gamma[row - 1][m - 1], gamma[row][m - 1]]
            if m in (1, columns + 1):
                before.append(gamma[row - 1][m])
            soft = -lam * torch.logsumexp(torch.stack(before) / -lam, dim=0)
            gamma[row][m] = soft + (cost[row, m - 1] if m <= columns else nothing)
    return gamma[-1][-1]


def baseline(support: Tensor, query: Tensor, *, epochs: int = 100, mini_batch: int = 4) -> Tensor:
    """Vectors [way, shot, c] and [q, c]: a linear layer, trained by torch's SGD."""
    way, shot, c = support.shape
    x, y = support.flatten(0, 1), torch.arange(way).repeat_interleave(shot)
    layer = nn.Linear(c, way)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    with torch.enable_grad():
        for _ in range(epochs):
            for part in torch.randperm(len(x)).split(mini_batch):
                sgd.zero_grad()
                F.cross_entropy(layer(x[part]), y[part]).backward()
                sgd.step()
    return layer(query).detach()
