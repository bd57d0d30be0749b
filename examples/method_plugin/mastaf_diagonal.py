"""A method from outside of mastaf: prototypes under a learnt weight for each channel."""

from collections.abc import Sequence

import torch
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods.base import Defaults, Method
from torch import Tensor, nn
from torch.nn import functional as F


class Diagonal(Method):
    """Xing, Ng, Jordan, Russell, "Distance Metric Learning, with Application to Clustering with Side-Information",
    NIPS 2002, with a diagonal metric, on class means.

    With v = the mean of a cube over time and space and a learnt weight a_c > 0 for each channel, a class is the mean p
    of its shots' v, and its logit scale * cos(a v_q, a p). At the start every a is 1: a plain cosine neighbour.

    Differs from the paper in: the cosine, and cross-entropy on episodes in place of its convex programme.
    """

    readout = "vec"  # all that it reads of a cube is the mean over time and space, so that lists are scored fast
    defaults = Defaults(optimiser="adam", lr=0.01)

    def __init__(self, *, cube_shape: Sequence[int], n_train_classes: int, scale: float = 10.0) -> None:
        super().__init__()
        if not scale > 0:
            raise FewShotError(f"scale ({scale}) must be above 0")
        self.cube_shape, self.n_train_classes, self.scale = tuple(cube_shape), n_train_classes, scale
        self.log_weights = nn.Parameter(torch.zeros(self.cube_shape[0]))  # [c]

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        prototypes = self._read(episode.support).mean(2)  # [b, way, c]
        queries = self._read(episode.query)  # [b, q, c]
        return self.scale * F.normalize(queries, dim=-1) @ F.normalize(prototypes, dim=-1).transpose(1, 2)

    def _read(self, cubes: Tensor) -> Tensor:
        """Cubes [..., c, t, h, w] -> weighted means [..., c]."""
        return cubes.float().mean((-3, -2, -1)) * self.log_weights.exp()
