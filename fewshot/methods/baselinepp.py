"""Baseline++: a new cosine classifier for each episode."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..episodes.episode import Episode
from .base import Defaults, Method
from .base_classes import class_loss, videos_and_classes
from .checks import require_count, require_number
from .readout import vectors
from .support_sgd import MomentumSGD, draw, one_hot_ways, shares


class BaselinePlusPlus(Method):
    """Chen, Liu, Kira, Wang, Huang, "A Closer Look at Few-shot Classification", ICLR 2019.

    As Baseline, with the classifier logit = s g_n cos(u_n, x): x = v / (|v| + 1e-5), v the mean of a cube over time and
    space, u_n and its gain g_n (at first |u_n|) learnt, no bias. s is 2, in the classifier over more than 200 training
    classes 10. All episodes descend at once, in inner products (`support_sgd`), which gives the same weights.

    State: directions [Z, c], gains [Z], with training classes.

    Differs from the paper in: the backbone is frozen and the first stage learns nothing unless behind an adapter.
    """

    readout = "vec"
    draws = True
    defaults = Defaults(optimiser="adam", lr=0.001)

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        epochs: int = 100,
        mini_batch: int = 4,
        support_lr: float = 0.01,
    ) -> None:
        super().__init__()
        require_count("epochs", epochs)
        require_count("mini_batch", mini_batch)
        require_number("support_lr", support_lr, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.epochs, self.mini_batch, self.support_lr = epochs, mini_batch, support_lr
        if n_train_classes:
            first = nn.Linear(self.cube_shape[0], n_train_classes, bias=False).weight  # PyTorch's initial values
            self.directions = nn.Parameter(first.detach().clone())
            self.gains = nn.Parameter(torch.linalg.vector_norm(self.directions.detach(), dim=-1))

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way] of one fixed draw."""
        return self.score(episode, np.random.default_rng(0))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of every video over the training classes; without these that of the queries."""
        if not self.n_train_classes:
            return super().loss(episode, smoothing=smoothing)
        read, ids = videos_and_classes(episode)
        cosines = _unit(read) @ F.normalize(self.directions, dim=-1).T  # [m, Z]
        return class_loss(_scale(self.n_train_classes) * self.gains * cosines, ids, smoothing=smoothing)

    def score(self, episode: Episode, rng: np.random.Generator) -> Tensor:
        """Logits [b, q, way] of the fitted classifiers."""
        support, query = _unit(vectors(episode.support)), _unit(vectors(episode.query))
        drawn = draw(rng, support, epochs=self.epochs, mini_batch=self.mini_batch)
        flat, wanted = support.flatten(1, 2), one_hot_ways(support)  # [b, n, c], [way, n]
        first = drawn.weight @ flat.transpose(1, 2)  # [b, way, n], of the initial directions and the supports
        gram = flat @ flat.transpose(1, 2)  # [b, n, n]
        square = drawn.weight.square().sum(-1)  # [b, way]
        scale = _scale(episode.way)
        fit = MomentumSGD(torch.ones_like(square), torch.zeros_like(first), square.sqrt(), lr=self.support_lr)
        for share in shares(drawn.batch, flat.dtype):  # [b, 1, n]
            kept, own, gain = fit.values  # u = kept * initial + own @ supports
            along = own @ gram  # [b, way, n]
            inner = kept.unsqueeze(2) * first + along  # [b, way, n], u.x
            length = (kept.square() * square + 2 * kept * (own * first).sum(-1) + (own * along).sum(-1)).sqrt()
            cosines = inner / length.unsqueeze(2)
            error = (torch.softmax(scale * gain.unsqueeze(2) * cosines, dim=1) - wanted) * share  # [b, way, n]
            pulled = (error * cosines).sum(-1)  # [b, way]
            slope, back = scale * gain / length, scale * gain * pulled / length.square()  # [b, way] each
            moves = slope.unsqueeze(2) * error - back.unsqueeze(2) * own
            fit.step(-back * kept, moves, scale * pulled)
        kept, own, gain = fit.values
        directions = kept.unsqueeze(2) * drawn.weight + own @ flat  # [b, way, c]
        cosines = query @ F.normalize(directions, dim=-1).transpose(1, 2)  # [b, q, way]
        return scale * gain.unsqueeze(1) * cosines


def _unit(values: Tensor) -> Tensor:
    return values / (torch.linalg.vector_norm(values, dim=-1, keepdim=True) + 1e-5)


def _scale(classes: int) -> int:
    return 2 if classes <= 200 else 10
