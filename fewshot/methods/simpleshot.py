"""SimpleShot: the nearest class mean of centred, normalised features."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..cubes.bank import FeatureBank
from ..cubes.reduced import mean_cubes
from ..episodes.episode import Episode
from .base import Method
from .checks import require_choice
from .readout import squared_distances, vectors

TRANSFORMS = ("none", "l2", "centred")


class SimpleShot(Method):
    """Wang, Chao, Weinberger, van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot
    Learning", arXiv 1911.04623, 2019.

    With v = the mean of a cube over time and space, x = nrm(v - m), m the mean v of the train classes (transform
    `centred`, the paper's CL2N), nrm(v) (`l2`) or v (`none`); the logit of a class is -|x_q - mean_k x_k|^2. m is all
    that training sets.

    State: `centre` [c].

    Differs from the paper in: the backbone is not trained on the base classes here.
    """

    readout = "vec"
    centre: Tensor

    def __init__(self, *, cube_shape: Sequence[int], n_train_classes: int, transform: str = "centred") -> None:
        super().__init__()
        require_choice("transform", transform, TRANSFORMS)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.transform = transform
        self.fits, self.episodic = transform == "centred", transform != "centred"
        self.register_buffer("centre", torch.zeros(self.cube_shape[0]))

    @torch.no_grad()
    def fit(self, bank: FeatureBank, rng: np.random.Generator) -> None:
        """Set `centre` from the train videos."""
        if self.transform == "centred":
            self.centre.copy_(mean_cubes(bank, np.arange(len(bank)), self.readout).mean(0).flatten())

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        return -squared_distances(self._read(episode.query), self._read(episode.support).mean(2))

    def _read(self, cubes: Tensor) -> Tensor:
        read = vectors(cubes)
        if self.transform == "none":
            return read
        return F.normalize(read - self.centre, dim=-1)
