"""The contract of a method: a head that scores episodes of cubes and never knows where they come from."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from ..episode import Episode


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

    optimiser: `sgd` or `adam`; lr; momentum; weight_decay; batch: episodes per update; episodes: training
    episodes. None where the data set decides (MASTAF's batch and episodes follow the data set).
    """

    optimiser: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch: int | None = None
    episodes: int | None = None


class Method(nn.Module):
    """One head. `method(episode)` gives logits [b, q, way]; `method.loss(episode)` a scalar.

    Built by the class method `build(cube_shape=(c, t, h, w), n_train_classes=Z, **keywords)`. Hooks with empty
    defaults: `calibrate` (feature scale, once before training), `fit` (training that is not episodic), `score` (a
    head that fits per test episode), `attention` (maps to show).
    """

    needs: Needs = Needs()
    defaults: Defaults = Defaults()

    @classmethod
    def build(cls, *, cube_shape: tuple[int, int, int, int], n_train_classes: int, **keywords: object) -> "Method":
        """Make the method for cubes (c, t, h, w) and Z training classes. Raises FewShotError on a bad keyword."""
        raise NotImplementedError

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        raise NotImplementedError

    def loss(self, episode: Episode) -> Tensor:
        """Mean cross-entropy of the logits with the queries' ways; a scalar."""
        logits = self(episode)  # [b, q, way]
        return F.cross_entropy(logits.flatten(0, 1), episode.labels.flatten())

    def calibrate(self, cubes: Tensor) -> None:
        """See train cubes [n, c, t, h, w] once, before training, to set a feature scale."""

    def fit(self, bank: object, rng: np.random.Generator) -> None:
        """Train what is not trained episodically, from the train split's feature bank."""

    def score(self, episode: Episode, rng: np.random.Generator) -> Tensor:
        """Logits [b, q, way] at test time; `rng` is for heads that fit per episode."""
        return self(episode)

    def attention(self, episode: Episode) -> dict[str, Tensor]:
        """Maps to show, by name; none by default."""
        return {}

    def n_trainable(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
