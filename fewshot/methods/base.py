"""The contract of a method: a head that scores episodes of cubes and never knows where they come from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from ...cache.console import unknown_name
from ..cubes.bank import FeatureBank
from ..cubes.reduced import score_means
from ..episodes.episode import Episode, EpisodeRows
from ..episodes.randomness import EpisodeRandom
from ..errors import FewShotError
from ..related import RelatedEpisode


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method asks of its training episodes.

    query_mode: `single` (one query video in the episode) or `per_class`; queries: least queries (in the episode,
    or of each class); t: least size of the cube's time axis.
    """

    query_mode: str = "single"
    queries: int = 1
    t: int = 1


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """A method's published optimisation; the command line overrides each.

    optimiser: `sgd`, `adam` or `adamw`; lr; momentum; weight_decay; schedule: `constant`, `cosine` or `step`, which
    multiplies lr by step_factor every step_every episodes (None: thrice in a run); batch: episodes per update;
    episodes: training episodes; query_mode, queries: of training episodes. None where the data set decides (MASTAF's
    batch and episodes follow the data set), or where the method's least needs are what is published.
    """

    optimiser: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: str = "constant"
    step_every: int | None = None
    step_factor: float = 0.1
    batch: int | None = None
    episodes: int | None = None
    query_mode: str | None = None
    queries: int | None = None


class Method(nn.Module):
    """One head. `method(episode)` gives logits [b, q, way], `method.loss(episode)` a scalar; episodes never mix.

    A subclass takes flat keywords `__init__(self, *, cube_shape, n_train_classes, ...)` and keeps each as an
    attribute of the same name, so that `build` can check and `describe` can tell them. Hooks with empty defaults:
    `calibrate` (feature scale, once before training), `fit` (training that is not episodic), `score` (a head that
    fits per test episode), `attention` (maps to show).

    A head whose scores and loss follow from relation maps and mean cubes sets `reads_maps` and has `score_maps` and
    `loss_maps`: several such heads then share the maps of an episode.

    What a class or an object says of itself: readout: all that it reads of a cube, `vec` (the mean over time and
    space), `seq` (the mean over space) or `cube`; draws: its scores depend on random numbers; ordered: its scores
    depend on the order of ways and shots; fits: `calibrate` or `fit` set what its scores depend on, so that it must be
    trained even where no gradient reaches them; episodic: it is trained by episodes, otherwise by `fit` alone.
    """

    reads_maps: bool = False
    readout: str = "cube"
    draws: bool = False
    ordered: bool = False
    fits: bool = False
    episodic: bool = True

    needs: Needs = Needs()
    defaults: Defaults = Defaults()

    @classmethod
    def build(
        cls, *, cube_shape: Sequence[int], n_train_classes: int, adapter: bool = False, **keywords: Any
    ) -> "Method":
        """Make the method for cubes (c, t, h, w) and Z training classes (0: none, so no global classifier).

        adapter: put an identity-initialised adapter in front. Initial weights come from torch's global generator:
        the caller seeds it. Raises FewShotError on a keyword that the method does not have, or its value.
        """
        for name in keywords:
            if name not in cls.keywords():
                raise FewShotError(unknown_name(f"keyword of {cls.__name__}", name, cls.keywords()))
        shape = tuple(int(size) for size in cube_shape)
        if len(shape) != 4 or min(shape) < 1:
            raise FewShotError(f"cube_shape ({shape}) must be four sizes (c, t, h, w) of at least 1")
        if n_train_classes < 0:
            raise FewShotError(f"n_train_classes ({n_train_classes}) must not be negative")
        if shape[1] < cls.needs.t:
            raise FewShotError(f"cubes {shape} have t = {shape[1]}, but {cls.__name__} needs t >= {cls.needs.t}")
        method = cls(cube_shape=shape, n_train_classes=n_train_classes, **keywords)
        if not adapter:
            return method
        from .adapter import Adapted

        return Adapted(method, channels=shape[0])

    @classmethod
    def keywords(cls) -> tuple[str, ...]:
        """Names of the keywords that `build` takes besides cube_shape, n_train_classes and adapter."""
        fixed = ("self", "cube_shape", "n_train_classes")
        found = signature(cls.__init__).parameters.values()
        return tuple(p.name for p in found if p.kind is p.KEYWORD_ONLY and p.name not in fixed)

    def describe(self) -> dict[str, Any]:
        """Keywords, each with the value in force and fit for JSON: `build(**describe())` makes the method again."""
        names = ("cube_shape", "n_train_classes", *self.keywords())
        values = {name: getattr(self, name) for name in names}
        return {**values, "cube_shape": list(values["cube_shape"]), "adapter": False}

    def note(self) -> str:
        """One line on what these cubes leave of the method; '' where they leave all of it."""
        return ""

    def training_queries(self) -> tuple[str, int]:
        """Query mode and queries of its training episodes, unless others are asked for."""
        mode = self.defaults.query_mode or self.needs.query_mode
        least = self.needs.queries if mode == self.needs.query_mode else 1
        return mode, max(least, self.defaults.queries or 1)

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        raise NotImplementedError

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy of the logits with the queries' ways; a scalar.

        smoothing: share of every target that is spread evenly over all of its classes.
        """
        logits = self(episode)  # [b, q, way]
        return F.cross_entropy(logits.flatten(0, 1), episode.labels.flatten(), label_smoothing=smoothing)

    def calibrate(self, cubes: Tensor) -> None:
        """See train cubes [n, c, t, h, w] once, before training, to set a feature scale."""

    def fit(self, bank: FeatureBank, rng: np.random.Generator) -> None:
        """Train what is not trained episodically, from the train split's feature bank."""

    def score(self, episode: Episode, random: EpisodeRandom) -> Tensor:
        """Logits [b, q, way] at test time; `random` is for heads that draw, each episode from its own generator."""
        return self(episode)

    def score_maps(self, related: RelatedEpisode) -> Tensor:
        """Logits [b, q, way] from relation maps, those of `score`; only where `reads_maps`."""
        raise NotImplementedError

    def score_rows(
        self,
        bank: FeatureBank,
        rows: EpisodeRows,
        random: EpisodeRandom,
        advance: Callable[[int], None] | None = None,
    ) -> Tensor | None:
        """Logits [e, q, way] of a whole list at once, those of `score` up to rounding; None where chunks are as good.

        Here: from the means of cubes, for a head that reads no more.
        rows: positions in the bank's `keys`; advance: called with the number of episodes done, as they are done.
        """
        return None if self.readout == "cube" else score_means(self, bank, rows, random, advance)

    def loss_maps(self, related: RelatedEpisode, *, smoothing: float = 0.0) -> Tensor:
        """The loss from relation maps, that of `loss`; only where `reads_maps`."""
        raise NotImplementedError

    def attention(self, episode: Episode) -> dict[str, Tensor]:
        """Maps to show, by name; none by default."""
        return {}

    def n_trainable(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
