"""CAN: cross attention from a query's positions to a class's and back, by a kernel that the correlations choose."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..episodes.episode import Episode
from ..errors import FewShotError
from ..related import RelatedEpisode, relate
from ..relation import RelationMaps, SideMap, dense_cosine, pooled_cosine
from .base import Defaults, Method
from .checks import require_choice, require_count, require_number
from .global_classifier import GlobalClassifier, cross_entropy

REDUCTIONS = ("mean", "sum")


class CAN(Method):
    """Hou, Chang, Ma, Shan, Chen, "Cross Attention Network for Few-shot Classification", NeurIPS 2019.

    With P the mean cube of a class and Q a query, both as L positions of c: correlations R[i, j] = cos(P_i, Q_j). For
    the class, r_i = R[i, :] and w = W2 relu(W1 mean_i r_i), W1: L -> L / `reduction`; A_i = softmax_i(w.r_i / tau), and
    P'_i = (1 + A_i) P_i; for the query the same with R transposed and the same W1, W2. The logit of a class is
    scale * cos(mean Q', mean P'). In training L1 is the cross-entropy of scale * cos(Q'_j, mean P'), averaged over
    the query's positions j; L2 that of a linear classifier over the training classes at each position of the Q' towards
    its own class; the loss is `few_shot_weight` L1 + L2.

    State: first.weight [L / reduction, L], second.weight [L, L / reduction], classifier.{weight, bias}, with training
    classes.

    Differs from the paper in: the backbone is frozen; maps became cubes; means in place of sums in the losses;
    no transductive inference. reduce `mean` (w.r_i / L, so that softmax does not saturate) and scale = 7 are those of
    the authors' code, `sum` and 1 the paper's; the code's normalisation before the relu is left out. Optimisation is
    recalled, its schedule left out.
    """

    reads_maps = True
    defaults = Defaults(
        lr=0.1, momentum=0.9, weight_decay=0.0005, batch=4, episodes=108_000, query_mode="per_class", queries=6
    )

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        reduction: int = 6,
        tau: float = 0.025,
        reduce: str = "mean",
        scale: float = 7.0,
        few_shot_weight: float = 0.5,
    ) -> None:
        super().__init__()
        require_count("reduction", reduction)
        require_choice("reduce", reduce, REDUCTIONS)
        require_number("tau", tau, above=True)
        require_number("scale", scale, above=True)
        require_number("few_shot_weight", few_shot_weight, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.reduction, self.tau, self.reduce = reduction, tau, reduce
        self.scale, self.few_shot_weight = scale, few_shot_weight
        channels, t, h, w = self.cube_shape
        inner = max(1, t * h * w // reduction)
        self.first = nn.Linear(t * h * w, inner, bias=False)
        self.second = nn.Linear(inner, t * h * w, bias=False)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=(2 / layer.out_features) ** 0.5)
        self.classifier = GlobalClassifier(channels, n_train_classes) if n_train_classes else None

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        return self.score_maps(relate(episode))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """See `loss_maps`."""
        return self.loss_maps(relate(episode), smoothing=smoothing)

    def score_maps(self, related: RelatedEpisode) -> Tensor:
        """Logits [b, q, way], of pooled cubes."""
        of_class, of_query = self._attend(related)
        return self.scale * pooled_cosine(related.maps, 1 + of_class, 1 + of_query)

    def loss_maps(self, related: RelatedEpisode, *, smoothing: float = 0.0) -> Tensor:
        """few_shot_weight L1 + L2, or L1 alone without training classes; a scalar."""
        of_class, of_query = self._attend(related)
        logits = self.scale * dense_cosine(related.maps, 1 + of_class)  # [b, q, way, L]
        nearest = cross_entropy(logits, related.labels, smoothing=smoothing)
        if self.classifier is None:
            return nearest
        if related.queries is None:
            raise RuntimeError("a global loss needs cubes")
        true = related.labels[:, :, None, None].expand(-1, -1, 1, of_query.shape[-1])  # [b, q, 1, L]
        weights = 1 + of_query.gather(2, true).squeeze(2)  # [b, q, L]
        ids = related.class_ids.gather(1, related.labels)  # [b, q]
        overall = self.classifier.dense_loss(related.queries, weights, ids, smoothing=smoothing)
        return self.few_shot_weight * nearest + overall

    def attention(self, episode: Episode) -> dict[str, Tensor]:
        """class_cross and query_cross [b, q, way, t, h, w]; each sums to 1."""
        of_class, of_query = self._attend(relate(episode))
        sizes = self.cube_shape[1:]
        return {"class_cross": of_class.unflatten(-1, sizes), "query_cross": of_query.unflatten(-1, sizes)}

    def _attend(self, related: RelatedEpisode) -> tuple[Tensor, Tensor]:
        """A of the class's and of the query's positions, [b, q, way, L] each."""
        if related.cube_shape != self.cube_shape:
            built = f"this CAN was built for cubes {self.cube_shape}"
            raise FewShotError(f"cubes {related.cube_shape} must be {self.cube_shape}: {built}; build one for these")
        maps: RelationMaps = related.maps
        return self._attend_side(maps.side("class_cross", True)), self._attend_side(maps.side("query_cross", True))

    def _attend_side(self, side: SideMap) -> Tensor:
        kernel = self.second(self.first(side.mean_over_own).relu())  # [b, q, way, L]
        fused = side.apply(kernel)  # [b, q, way, L], by own positions
        if self.reduce == "mean":
            fused = fused / kernel.shape[-1]
        return torch.softmax(fused / self.tau, dim=-1)
