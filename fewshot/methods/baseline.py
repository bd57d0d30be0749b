"""Baseline: a new linear classifier for each episode."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..episodes.episode import Episode
from ..episodes.randomness import EpisodeRandom
from ..threads import one_thread
from .base import Defaults, Method
from .base_classes import class_loss, videos_and_classes
from .checks import require_count, require_number
from .readout import vectors
from .support_sgd import SupportSGD, draw, mini_batches, products, reach, spread


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
        return self.score(episode, EpisodeRandom())

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of every video over the training classes; without these that of the queries."""
        if self.classifier is None:
            return super().loss(episode, smoothing=smoothing)
        read, ids = videos_and_classes(episode)
        return class_loss(self.classifier(read), ids, smoothing=smoothing)

    @one_thread()
    def score(self, episode: Episode, random: EpisodeRandom) -> Tensor:
        """Logits [b, q, way] of the fitted classifiers."""
        support, query = vectors(episode.support), vectors(episode.query)  # [b, way, shot, c], [b, q, c]
        weight, bias, order = draw(random, support, epochs=self.epochs)
        flat, (way, shot) = support.flatten(1, 2), support.shape[1:3]  # [b, n, c]
        ways = torch.arange(way, device=flat.device).view(way, 1, 1)
        # A bias is the weight of a 1 that stands beside every vector.
        gram = (products(flat, flat) + 1).permute(1, 2, 0).contiguous()  # [n, n, b]
        first = (products(weight, flat) + bias.unsqueeze(2)).permute(1, 2, 0).contiguous()  # [way, n, b]
        # u = kept (w_0, bias_0) + own @ supports, along: its inner products with the supports.
        fit = SupportSGD(gram.new_ones(()), torch.zeros_like(first), first, lr=self.support_lr)
        for places, rows in mini_batches(order, gram, self.mini_batch):  # [m, b], [m, n, b]
            kept, own, along = fit.values
            logits = along.gather(1, places.expand(way, -1, -1))  # [way, m, b]
            error = (torch.softmax(logits, dim=0) - (places // shot == ways).to(logits.dtype)) / len(places)
            fit.step(torch.zeros_like(kept), spread(error, places, len(gram)), reach(error, rows))
        kept, own, _ = fit.values
        asked = products(query, weight) + bias.unsqueeze(1)  # [b, q, way]
        return kept * asked + (products(query, flat) + 1) @ own.permute(2, 1, 0)
