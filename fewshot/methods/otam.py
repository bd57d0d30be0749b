"""OTAM: ordered alignment of two sequences of frames by a soft shortest path."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_number
from .readout import sequences, soft_cosine


class OTAM(Method):
    """Cao, Ji, Cao, Chang, Niebles, "Few-Shot Video Classification via Temporal Alignment", CVPR 2020.

    D[l, m] = 1 - c(query frame l, support frame m), c(u, w) = u.w / (|u||w| + 0.01). The support axis is padded with
    a column of zeros on both sides, and the cheapest monotone path from the first row to the last is found by
    gamma[l, m] = D[l, m] + softmin of its predecessors (left and upper left; in both padded ends also above), with
    softmin(x..) = -lam log sum exp(-x / lam). The cost is gamma at the last cell, of D and of its transpose, because
    the padding makes it one-sided. The logit of a class is minus the mean cost over its shots. At t = 1 this is
    2 (1 - c): a cosine neighbour.

    Differs from the paper in: the backbone is frozen, so that nothing is learnt unless behind an adapter. lam = 0.1 and
    the borders are those of public re-implementations; softmin is computed by logaddexp, since exp and log one after
    the other leave float32 from about 8 frames on.
    """

    readout = "seq"
    defaults = Defaults(optimiser="sgd", lr=0.001, batch=1, episodes=50_000)

    def __init__(self, *, cube_shape: Sequence[int], n_train_classes: int, lam: float = 0.1) -> None:
        super().__init__()
        require_number("lam", lam, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.lam = lam

    def note(self) -> str:
        """At t = 1 there is nothing to align."""
        return "cubes have t = 1, so OTAM is the mean cosine to the shots" if self.cube_shape[1] == 1 else ""

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = sequences(episode.support), sequences(episode.query)  # [b, way, shot, t, c], [b, q, t, c]
        shot, t = support.shape[2:4]
        alike = soft_cosine(query.flatten(1, 2), support.flatten(1, 3))  # [b, q*t, way*shot*t]
        cost = 1 - alike.unflatten(1, (-1, t)).unflatten(3, (-1, shot, t))  # [b, q, t, way, shot, t]
        cost = cost.permute(2, 5, 0, 1, 3, 4)  # [t, t, b, q, way, shot]
        both = torch.stack([cost, cost.transpose(0, 1)], dim=2)  # [t, t, 2, b, q, way, shot]
        return -self.align(both.contiguous()).sum(0).mean(-1)

    def align(self, cost: Tensor) -> Tensor:
        """The soft cost of the best path through each [rows, columns] of cost [rows, columns, ...]: [...]."""
        nothing = torch.zeros_like(cost[0, 0])
        # Each entry of `row` is gamma of one column, the two padded ones among them.
        row = [nothing, *cost[0].cumsum(0).unbind(0)]
        row.append(row[-1])
        for costs in cost[1:]:
            above, row = row, [nothing]
            for column, own in enumerate(costs.unbind(0), start=1):
                best = self._softmin(above[column - 1], row[column - 1])
                if column == 1:
                    best = self._softmin(best, above[1])
                row.append(own + best)
            last = self._softmin(above[-2], row[-1])
            row.append(self._softmin(last, above[-1]))
        return row[-1]

    def _softmin(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.lam * torch.logaddexp(-x / self.lam, -y / self.lam)
