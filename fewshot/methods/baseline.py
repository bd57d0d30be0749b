"""Baseline: a new linear classifier for each episode."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..episodes.episode import Episode
from .base import Defaults, Method
from .base_classes import class_loss, videos_and_classes
from .checks import require_count, require_number
from .readout import vectors
from .support_sgd import MomentumSGD, draw, one_hot_ways, shares


class Baseline(Method):
    """Chen, Liu, Kira, Wang, Huang, "A Closer Look at Few-shot Classification", ICLR 2019.

    With v = the mean of a cube over time and space: for each episode a fresh linear layer (PyTorch's initial values)
    is trained on the way*shot support vectors by SGD: learning rate 0.01, momentum and dampening 0.9, weight decay
    0.001, mini-batches of 4 in random order, 100 epochs; its outputs for a query are the logits. All episodes descend
    at once, in inner products (`support_sgd`), which gives the same weights. In training, a linear classifier over all
    training classes stands in for the first stage; it reaches the scores through an adapter alone.

    State: classifier.{weight [Z, c], bias [Z]}, with training classes.

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
        self.classifier = nn.Linear(self.cube_shape[0], n_train_classes) if n_train_classes else None
        if self.classifier is not None:
            nn.init.zeros_(self.classifier.bias)

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way] of one fixed draw."""
        return self.score(episode, np.random.default_rng(0))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of every video over the training classes; without these that of the queries."""
        if self.classifier is None:
            return super().loss(episode, smoothing=smoothing)
        read, ids = videos_and_classes(episode)
        return class_loss(self.classifier(read), ids, smoothing=smoothing)

    def score(self, episode: Episode, rng: np.random.Generator) -> Tensor:
        """Logits [b, q, way] of the fitted classifiers."""
        support, query = vectors(episode.support), vectors(episode.query)  # [b, way, shot, c], [b, q, c]
        drawn = draw(rng, support, epochs=self.epochs, mini_batch=self.mini_batch)
        flat, wanted = support.flatten(1, 2), one_hot_ways(support)  # [b, n, c], [way, n]
        first = drawn.weight @ flat.transpose(1, 2)  # [b, way, n], of the initial weights and the supports
        gram = flat @ flat.transpose(1, 2)  # [b, n, n]
        start = torch.ones((), dtype=flat.dtype, device=flat.device)
        fit = MomentumSGD(start, torch.zeros_like(first), drawn.bias, lr=self.support_lr)
        for share in shares(drawn.batch, flat.dtype):  # [b, 1, n]
            kept, own, bias = fit.values
            logits = kept * first + own @ gram + bias.unsqueeze(2)  # [b, way, n]
            error = (torch.softmax(logits, dim=1) - wanted) * share
            fit.step(torch.zeros_like(kept), error, error.sum(-1))
        kept, own, bias = fit.values
        weights = kept * drawn.weight + own @ flat  # [b, way, c]
        return query @ weights.transpose(1, 2) + bias.unsqueeze(1)
