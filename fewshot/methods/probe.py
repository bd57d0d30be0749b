"""A linear probe: regularised logistic regression for each episode."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_count, require_number
from .readout import vectors


class LinearProbe(Method):
    """Tian, Wang, Krishnan, Tenenbaum, Isola, "Rethinking Few-Shot Image Classification: a Good Embedding Is All You
    Need?", ECCV 2020.

    With x = nrm(v), v the mean of a cube over time and space, the logits are W x_q + b of the weights that minimise
    the summed cross-entropy over the supports + |W|^2 / (2 strength). W is a combination of the supports, so
    Nesterov's method runs on their inner products, all episodes at once, with the step that their size allows. Nothing
    is drawn: the problem is convex.

    Differs from the paper in: the backbone is not trained on the base classes here; a fixed number of steps.
    """

    readout = "vec"
    defaults = Defaults(optimiser="adam", lr=0.001)

    def __init__(
        self, *, cube_shape: Sequence[int], n_train_classes: int, strength: float = 1.0, steps: int = 200
    ) -> None:
        super().__init__()
        require_number("strength", strength, above=True)
        require_count("steps", steps)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.strength, self.steps = strength, steps

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support = F.normalize(vectors(episode.support), dim=-1)  # [b, way, shot, c]
        query = F.normalize(vectors(episode.query), dim=-1)  # [b, q, c]
        flat, shot = support.flatten(1, 2), support.shape[2]  # [b, n, c]
        wanted = torch.eye(episode.way, dtype=flat.dtype, device=flat.device).repeat_interleave(shot, dim=1)  # [way, n]
        gram, n = flat @ flat.transpose(1, 2), flat.shape[1]  # [b, n, n]
        # The curvature is at most that of the softmax, 1/2, times |x|^2 + 1 summed over supports, + the penalty's.
        step, decay = 1 / (n + 1 / self.strength), 1 / self.strength
        own = flat.new_zeros(len(flat), episode.way, n)  # [b, way, n], weights as sums of supports
        bias = flat.new_zeros(len(flat), episode.way)  # [b, way]
        last, last_bias = own, bias
        for number in range(self.steps):
            speed = number / (number + 3)
            ahead, ahead_bias = own + speed * (own - last), bias + speed * (bias - last_bias)
            logits = ahead @ gram + ahead_bias.unsqueeze(2)  # [b, way, n]
            error = torch.softmax(logits, dim=1) - wanted
            last, last_bias = own, bias
            own = ahead - step * (error + decay * ahead)
            bias = ahead_bias - step * error.sum(-1)
        return (query @ flat.transpose(1, 2)) @ own.transpose(1, 2) + bias.unsqueeze(1)
