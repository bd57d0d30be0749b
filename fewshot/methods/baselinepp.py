"""Baseline++: a new cosine classifier for each episode."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..episodes.episode import Episode
from ..episodes.randomness import EpisodeRandom
from ..threads import one_thread
from .base import Defaults, Method
from .base_classes import class_loss, videos_and_classes
from .checks import require_count, require_number
from .readout import vectors
from .support_sgd import SupportSGD, draw, mini_batches, products, reach, spread


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
        return self.score(episode, EpisodeRandom())

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of every video over the training classes; without these that of the queries."""
        if not self.n_train_classes:
            return super().loss(episode, smoothing=smoothing)
        read, ids = videos_and_classes(episode)
        cosines = _unit(read) @ F.normalize(self.directions, dim=-1).T  # [m, Z]
        return class_loss(_scale(self.n_train_classes) * self.gains * cosines, ids, smoothing=smoothing)

    @one_thread()
    def score(self, episode: Episode, random: EpisodeRandom) -> Tensor:
        """Logits [b, q, way] of the fitted classifiers."""
        support, query = _unit(vectors(episode.support)), _unit(vectors(episode.query))
        weight, _, order = draw(random, support, epochs=self.epochs)
        flat, (way, shot) = support.flatten(1, 2), support.shape[1:3]  # [b, n, c]
        ways, scale = torch.arange(way, device=flat.device).view(way, 1, 1), _scale(way)
        gram = products(flat, flat).permute(1, 2, 0).contiguous()  # [n, n, b]
        first = products(weight, flat).permute(1, 2, 0).contiguous()  # [way, n, b]
        square = weight.square().sum(-1).T.contiguous()  # [way, b]
        # u = kept w_0 + own @ supports, along: its inner products with the supports.
        fit = SupportSGD(torch.ones_like(square), torch.zeros_like(first), first, square.sqrt(), lr=self.support_lr)
        for places, rows in mini_batches(order, gram, self.mini_batch):  # [m, b], [m, n, b]
            kept, own, along, gain = fit.values
            length = _length(kept, own, along, first, square)  # [way, b]
            cosines = along.gather(1, places.expand(way, -1, -1)) / length.unsqueeze(1)  # [way, m, b]
            share = torch.softmax(scale * gain.unsqueeze(1) * cosines, dim=0)
            error = scale * (share - (places // shot == ways).to(share.dtype)) / len(places)  # [way, m, b]
            pulled = (error * cosines).sum(1)  # [way, b]
            moved, back = error * (gain / length).unsqueeze(1), gain * pulled / length.square()
            held = back.unsqueeze(1)
            fit.step(
                -back * kept, spread(moved, places, len(gram)) - held * own, reach(moved, rows) - held * along, pulled
            )
        kept, own, along, gain = fit.values
        inner = kept.T.unsqueeze(1) * products(query, weight) + products(query, flat) @ own.permute(2, 1, 0)
        return scale * (gain / _length(kept, own, along, first, square)).T.unsqueeze(1) * inner


def _length(kept: Tensor, own: Tensor, along: Tensor, first: Tensor, square: Tensor) -> Tensor:
    """|u| [way, b], of kept, square [way, b] and own, along, first [way, n, b]; u.u = kept u.w_0 + own u.s."""
    return (kept.square() * square + (own * torch.addcmul(along, kept.unsqueeze(1), first)).sum(1)).sqrt()


def _unit(values: Tensor) -> Tensor:
    return values / (torch.linalg.vector_norm(values, dim=-1, keepdim=True) + 1e-5)


def _scale(classes: int) -> int:
    return 2 if classes <= 200 else 10
