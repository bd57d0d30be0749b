"""CMN-J: compound memory networks with one slot for each class."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_choice, require_number
from .compound import SaliencyEmbedding
from .hinge import hinge_loss

LOSSES = ("cross_entropy", "hinge")


class CMNJ(Method):
    """Zhu, Yang, "Label Independent Memory for Semi-Supervised Few-shot Video Classification", TPAMI 2020.

    As CMN with a memory, but a class has one slot, whose rows are the normalised mean of its shots' rows:
    A_n = nrm(W nrm(mean_k rows) + b). The logit is the inner product of the query's key nrm(W rows + b) with A_n; the
    loss is the cross-entropy of scale * logits, or CMN's hinge (objective `hinge`). With one shot its scores are CMN's.

    State: embedding.{saliencies [m, c], key.weight [key_size, m*c], key.bias}.

    Differs from the paper in: the backbone is frozen; the paper's second memory, of optical flow, needs cubes of flow,
    and its unlabelled videos are not used. Which system the name CMN-J means in later tables is not certain.
    """

    defaults = Defaults(optimiser="adam", lr=0.0001)

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        saliencies: int = 5,
        key_size: int = 512,
        sequence: str = "auto",
        objective: str = "cross_entropy",
        scale: float = 10.0,
        margin: float = 0.5,
    ) -> None:
        super().__init__()
        require_choice("objective", objective, LOSSES)
        require_number("scale", scale, above=True)
        require_number("margin", margin)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.saliencies, self.key_size, self.sequence = saliencies, key_size, sequence
        self.objective, self.scale, self.margin = objective, scale, margin
        self.embedding = SaliencyEmbedding(self.cube_shape, saliencies, key_size, sequence, identity=False)
        self.readout = "seq" if self.embedding.by_frame else "cube"

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way], cosines."""
        slots = F.normalize(self.embedding.rows(episode.support).mean(2), dim=-1)  # [b, way, m, c]
        asked = self._keys(self.embedding.rows(episode.query))  # [b, q, key_size]
        return asked @ self._keys(slots).transpose(1, 2)

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Of the scaled logits, or the hinge; a scalar."""
        logits = self(episode)  # [b, q, way]
        if self.objective == "hinge":
            return hinge_loss(logits, episode.labels, margin=self.margin, smoothing=smoothing)
        rows, labels = (self.scale * logits).flatten(0, 1), episode.labels.flatten()
        return F.cross_entropy(rows, labels, label_smoothing=smoothing)

    def _keys(self, rows: Tensor) -> Tensor:
        return F.normalize(self.embedding.keys(rows), dim=-1)
