"""Prototypical networks: the nearest mean of a class's shots."""

from collections.abc import Sequence

from torch import Tensor

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_number
from .readout import squared_distances, vectors


class ProtoNet(Method):
    """Snell, Swersky, Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017.

    With v = the mean of a cube over time and space, a class is the mean p of its shots' v, and its logit
    -|v_q - p|^2 / temperature. The temperature changes no answer, but large distances saturate the softmax when an
    adapter is trained (published values for longer vectors: 32 to 64).

    Differs from the paper in: the backbone is frozen, so that nothing is learnt unless behind an adapter.
    """

    readout = "vec"
    defaults = Defaults(optimiser="adam", lr=0.001)

    def __init__(self, *, cube_shape: Sequence[int], n_train_classes: int, temperature: float = 1.0) -> None:
        super().__init__()
        require_number("temperature", temperature, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.temperature = temperature

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        prototypes = vectors(episode.support).mean(2)  # [b, way, c]
        return -squared_distances(vectors(episode.query), prototypes) / self.temperature
