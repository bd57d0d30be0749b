"""TSN++: the mean over frames, and the mean cosine to a class's shots."""

from collections.abc import Sequence

from torch import Tensor

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_choice, require_number
from .readout import soft_cosine, squared_distances, vectors

PROTOTYPES = ("avg_sim", "mean")


class TSNPlusPlus(Method):
    """Cao, Ji, Cao, Chang, Niebles, "Few-Shot Video Classification via Temporal Alignment", CVPR 2020 (its baseline),
    after Wang et al., "Temporal Segment Networks", ECCV 2016.

    With v = the mean of a cube over time and space and c(u, w) = u.w / (|u||w| + 0.01), the logit of a class is the
    mean of c(v_q, v_k) over its shots k. proto `mean`: -|v_q - mean_k v_k|^2 instead. scale multiplies the logits: 1 as
    published, where gradients are weak. Nothing is learnt, unless behind an adapter.

    Differs from the paper in: the backbone is frozen; the rule is that of a public re-implementation, as the paper
    describes this baseline in a sentence.
    """

    readout = "vec"
    defaults = Defaults(optimiser="sgd", lr=0.001, batch=1, episodes=50_000)

    def __init__(
        self, *, cube_shape: Sequence[int], n_train_classes: int, proto: str = "avg_sim", scale: float = 1.0
    ) -> None:
        super().__init__()
        require_choice("proto", proto, PROTOTYPES)
        require_number("scale", scale, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.proto, self.scale = proto, scale

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = vectors(episode.support), vectors(episode.query)  # [b, way, shot, c], [b, q, c]
        if self.proto == "mean":
            return -self.scale * squared_distances(query, support.mean(2))
        alike = soft_cosine(query, support.flatten(1, 2))  # [b, q, way*shot]
        return self.scale * alike.unflatten(2, support.shape[1:3]).mean(-1)
