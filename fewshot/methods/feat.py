"""FEAT: class prototypes that a transformer adapts to each other."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..episodes.episode import Episode
from .base import Defaults, Method, Needs
from .checks import require_choice, require_number, require_share
from .query_sets import queries_by_way
from .readout import squared_distances, vectors

METRICS = ("euclidean", "cosine")


class FEAT(Method):
    """Ye, Hu, Zhan, Sha, "Few-Shot Learning via Embedding Adaptation with Set-to-Set Functions", CVPR 2020.

    With v = the mean of a cube over time and space, the way prototypes mean_k v_k pass as a set through one
    transformer layer (one head, q, k, v without bias, a linear output, LayerNorm(output + prototype)). The logit is
    -|p - v_q|^2 / temperature, or nrm(p).v_q / temperature (metric `cosine`). In training the same layer adapts all
    supports and queries of each class as one set; the mean of its outputs is a class centre, and
    balance * CE of all videos against the centres (at reg_temperature) is added. balance=0 needs no such sets.

    State: query, key, value, output, norm, and `length`, the mean |v| / sqrt(c) of train videos, by which v is divided.

    Differs from the paper in: the backbone is frozen; `length` puts v on the scale of LayerNorm's output; defaults are
    the authors' for one shot on miniImageNet (five shots: balance 0.1, reg_temperature 32), with momentum that is not
    Nesterov's.
    """

    readout = "vec"
    length: Tensor
    defaults = Defaults(
        optimiser="sgd",
        lr=0.002,
        momentum=0.9,
        weight_decay=0.0005,
        schedule="step",
        step_every=4_000,
        step_factor=0.5,
        batch=1,
        episodes=20_000,
        query_mode="per_class",
        queries=15,
    )

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        metric: str = "euclidean",
        temperature: float = 64.0,
        balance: float = 0.01,
        reg_temperature: float = 64.0,
        attention_dropout: float = 0.1,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        require_choice("metric", metric, METRICS)
        require_number("temperature", temperature, above=True)
        require_number("reg_temperature", reg_temperature, above=True)
        require_number("balance", balance)
        require_share("attention_dropout", attention_dropout)
        require_share("dropout", dropout)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.metric, self.temperature, self.balance = metric, temperature, balance
        self.reg_temperature, self.attention_dropout, self.dropout = reg_temperature, attention_dropout, dropout
        self.needs = Needs(query_mode="per_class") if balance else Needs()
        channels = self.cube_shape[0]
        self.query, self.key, self.value = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.output, self.norm = nn.Linear(channels, channels), nn.LayerNorm(channels)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=math.sqrt(1 / channels))
        nn.init.xavier_normal_(self.output.weight)
        self.register_buffer("length", torch.ones(()))

    @torch.no_grad()
    def calibrate(self, cubes: Tensor) -> None:
        """Set `length` from train cubes [n, c, t, h, w]."""
        mean = torch.linalg.vector_norm(vectors(cubes), dim=-1).mean()
        self.length.copy_((mean / math.sqrt(self.cube_shape[0])).clamp_min(1e-12))

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        return self._compare(self._read(episode.query), self.adapt(self._read(episode.support).mean(2)))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of the queries + balance * that of all videos against the centres of their classes."""
        total = super().loss(episode, smoothing=smoothing)
        if not self.balance:
            return total
        support, query = self._read(episode.support), self._read(episode.query)  # [b, way, shot, c], [b, q, c]
        sets = torch.cat([support, queries_by_way(query, episode.labels, episode.way)], dim=2)  # [b, way, m, c]
        centres = self.adapt(sets.flatten(0, 1)).mean(1).view(*sets.shape[:2], -1)  # [b, way, c]
        logits = self._compare(sets.flatten(1, 2), centres) * (self.temperature / self.reg_temperature)
        ways = torch.arange(episode.way, device=sets.device).repeat_interleave(sets.shape[2])  # [way*m]
        return total + self.balance * F.cross_entropy(
            logits.flatten(0, 1), ways.repeat(len(sets)), label_smoothing=smoothing
        )

    def adapt(self, sets: Tensor) -> Tensor:
        """Sets [b, n, c] of vectors that adapt to each other -> the same shape."""
        scores = self.query(sets) @ self.key(sets).transpose(1, 2) / math.sqrt(sets.shape[-1])  # [b, n, n]
        attention = F.dropout(torch.softmax(scores, dim=-1), self.attention_dropout, self.training)
        moved = F.dropout(self.output(attention @ self.value(sets)), self.dropout, self.training)  # [b, n, c]
        return self.norm(moved + sets)

    def _read(self, cubes: Tensor) -> Tensor:
        return vectors(cubes) / self.length

    def _compare(self, query: Tensor, classes: Tensor) -> Tensor:
        """query [b, q, c], classes [b, way, c] -> logits [b, q, way]."""
        if self.metric == "cosine":
            return query @ F.normalize(classes, dim=-1).transpose(1, 2) / self.temperature
        return -squared_distances(query, classes) / self.temperature
