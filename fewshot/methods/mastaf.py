"""MASTAF: attention on self and cross relation maps, fused in a nearest-neighbour score."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ...cache.console import unknown_name
from ..cubes.bank import FeatureBank
from ..episodes.episode import Episode, EpisodeRows
from ..episodes.randomness import EpisodeRandom
from ..errors import FewShotError
from ..related import RelatedEpisode, relate
from ..relation import RelationMaps, SideMap, dense_cosine, flat_cosine, pooled_cosine
from .base import Defaults, Method
from .global_classifier import GlobalClassifier, cross_entropy
from .mastaf_list import can_score_list, score_list
from .mastaf_profile import PRESETS, Profile
from .meta_learner import MetaLearner, Statistics

VARIANTS = ("full", "self", "cross", "neighbor")


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention over positions, each summing to 1; None where a variant or a metric does without.

    class_self [b, way, L]; query_self [b, q, L]; class_cross, query_cross [b, q, way, L].
    """

    class_self: Tensor | None = None
    query_self: Tensor | None = None
    class_cross: Tensor | None = None
    query_cross: Tensor | None = None


class MASTAF(Method):
    """Liu, Zhang, Pirsiavash, Liu, "MASTAF: A Model-Agnostic Spatio-Temporal Attention Fusion Network for Few-shot
    Video Classification", WACV 2023.

    A class is the mean cube of its shots. Relation maps of a cube with itself and of each query-class pair go
    through one small meta-learner that answers with a kernel d; A = softmax(d . M_i / tau) re-weights positions by
    1 + A. The cosine of the self-attended and that of the cross-attended cubes are fused; in training a global
    classifier over all training classes reads the cross-attended cubes too.

    preset: `code` (what the authors published, and what trains) or `paper` (the equations to the letter); any
    field of `Profile` may be given to override it. variant: `full`, `self`, `cross` or `neighbor` (Table 3).
    meta_learner=False gives every position equal weight (d constant, so a_i is the mean of M_i); residual=False
    re-weights by A alone. global_weight=0 drops the global classifier.

    State: meta.* (see MetaLearner; absent in `neighbor`), classifier.{weight [Z, c], bias [Z]}.

    Differs from the paper in: equations (11) and (12) are read as cross-entropy with the true class; `code` and
    `paper` differ as `Profile` says; BatchNorm statistics are per episode though episodes are batched; the
    backbone is not part of the method.
    """

    defaults = Defaults(optimiser="sgd", lr=0.01)
    reads_maps = True

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        preset: str = "code",
        variant: str = "full",
        meta_learner: bool = True,
        residual: bool = True,
        **profile: Any,
    ) -> None:
        super().__init__()
        if preset not in PRESETS:
            raise FewShotError(unknown_name("preset", preset, PRESETS))
        if variant not in VARIANTS:
            raise FewShotError(unknown_name("variant", variant, VARIANTS))
        for name, value in (("meta_learner", meta_learner), ("residual", residual)):
            if not isinstance(value, bool):
                raise FewShotError(f"{name} ({value!r}) must be True or False")
        self.profile = replace(PRESETS[preset], **{k: v for k, v in profile.items() if v is not None})
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.preset, self.variant = preset, variant
        self.meta_learner, self.residual = meta_learner, residual
        if variant == "neighbor" and self.profile.test_metric == "pool":
            self.readout = "vec"  # without attention a pooled cosine is that of mean vectors
        channels, t, h, w = self.cube_shape
        learns = meta_learner and variant != "neighbor"
        normalised = self.profile.meta_norm == "bn"
        self.meta = MetaLearner(t * h * w, self.profile.bottleneck, normalised=normalised) if learns else None
        classifies = self.profile.global_weight > 0 and n_train_classes > 0
        self.classifier = GlobalClassifier(channels, n_train_classes) if classifies else None

    @classmethod
    def keywords(cls) -> tuple[str, ...]:
        """The constructor's own keywords and the fields of `Profile`."""
        return (*super().keywords(), *(field.name for field in fields(Profile)))

    def describe(self) -> dict[str, Any]:
        """Keywords with their values in force; the preset's too, so that it may change without changing this."""
        own = {name: getattr(self, name) for name in ("preset", "variant", "meta_learner", "residual")}
        shape = {"cube_shape": list(self.cube_shape), "n_train_classes": self.n_train_classes}
        return {**shape, **own, **asdict(self.profile), "adapter": False}

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]: fused logits, or the logarithms of probabilities (fusion `prob`)."""
        return self.score_maps(relate(episode))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """See `loss_maps`."""
        return self.loss_maps(relate(episode), smoothing=smoothing)

    def score_maps(self, related: RelatedEpisode) -> Tensor:
        """Logits [b, q, way], as `forward`."""
        self._require_cubes(related)
        maps = related.maps
        return self.logits(
            maps, self.attend(maps, query_self=self.variant in ("self", "full")), self.profile.test_metric
        )

    def score_rows(
        self,
        bank: FeatureBank,
        rows: EpisodeRows,
        random: EpisodeRandom,
        advance: Callable[[int], None] | None = None,
    ) -> Tensor | None:
        """Logits [e, q, way] of a list of one-shot episodes; see `mastaf_list`."""
        return score_list(self, bank, rows, advance) if can_score_list(self, bank, rows) else None

    def loss_maps(self, related: RelatedEpisode, *, smoothing: float = 0.0) -> Tensor:
        """loss_scale * (L1 + global_weight * L2), a scalar; in training it moves the running statistics once.

        smoothing: of the labels, in both.
        """
        self._require_cubes(related)
        attention = self.attend(related.maps, query_self=self._loss_needs_query_self(related.labels.shape[1]))
        logits = self.logits(related.maps, attention, self.profile.train_metric)  # [b, q, way] or [b, q, way, L]
        total = cross_entropy(logits, related.labels, smoothing=smoothing)
        if self.classifier is not None:
            total = total + self.profile.global_weight * self._global_loss(related, attention, smoothing)
        return self.profile.loss_scale * total

    def attention(self, episode: Episode) -> dict[str, Tensor]:
        """class_self [b, way, t, h, w], query_self [b, q, t, h, w], class_cross and query_cross [b, q, way, t, h, w].

        Those that the variant has; each sums to 1. Running statistics are used and left as they are.
        """
        related = relate(episode)
        self._require_cubes(related)
        found = self.attend(related.maps, query_self=self.variant in ("self", "full"), train=False)
        shape = self.cube_shape[1:]
        shown = {field.name: getattr(found, field.name) for field in fields(Attention)}
        return {name: map_.unflatten(-1, shape) for name, map_ in shown.items() if map_ is not None}

    def attend(self, maps: RelationMaps, *, query_self: bool, train: bool | None = None) -> Attention:
        """The variant's attention; `query_self` says whether the query's own is wanted; train: as the module is."""
        if self.variant == "neighbor":
            return Attention()
        record: list[Statistics] | None = [] if (self.training if train is None else train) else None
        cosine, alone = self.profile.normalize_maps, maps.cross.shape[2] == 1  # one way: nothing to normalise over
        found: dict[str, Tensor] = {}
        # The order of these calls is the authors', and the running statistics depend on it.
        if self.variant in ("self", "full"):
            found["class_self"] = self._attend_side(maps.side("class_self", cosine), not alone, record)
            if query_self:
                several = self.profile.query_self_norm == "authors" and maps.cross.shape[1] > 1
                found["query_self"] = self._attend_side(maps.side("query_self", cosine), several, record)
        if self.variant in ("cross", "full"):
            found["class_cross"] = self._attend_side(maps.side("class_cross", cosine), not alone, record)
            found["query_cross"] = self._attend_side(maps.side("query_cross", cosine), not alone, record)
        if self.meta is not None and record:
            self.meta.update(record)
        return Attention(**found)

    def _attend_side(self, side: SideMap, normalise: bool, record: list[Statistics] | None) -> Tensor:
        """A over own positions, [..., L]: equations (3) and (4)."""
        if self.meta is None:
            fused = side.mean_over_other()  # [..., L]
        else:
            kernel = self.meta(side.mean_over_own, normalise=normalise, record=record)  # [..., L]
            fused = side.apply(kernel)  # [..., L]
            if self.profile.reduce == "mean":
                fused = fused / kernel.shape[-1]
        return torch.softmax(fused / self.profile.tau, dim=-1)

    def logits(self, maps: RelationMaps, attention: Attention, metric: str) -> Tensor:
        """Fused scores [b, q, way], or [b, q, way, L] for the metric `dense`: equations (8) to (10)."""
        first = second = None
        if self.variant != "self":
            first = self._branch(maps, attention.class_cross, attention.query_cross, metric)
        if self.variant == "self" or (self.variant == "full" and self.profile.alpha > 0):
            of_class = _unsqueeze(attention.class_self, 1)  # [b, 1, way, L]
            of_query = _unsqueeze(attention.query_self, 2)  # [b, q, 1, L]
            second = self._branch(maps, of_class, of_query, metric)
        return self.fuse(second, None) if first is None else self.fuse(first, second)

    def fuse(self, first: Tensor | None, second: Tensor | None) -> Tensor:
        """Scores from the cosines of the variant's branches, each [b, q, way] or [b, q, way, L]; `second`, if there,
        has the weight alpha."""
        alpha, scale = self.profile.alpha, self.profile.scale
        if first is None:
            raise RuntimeError("a variant has at least one branch")
        if self.profile.fusion == "logit":
            return scale * first if second is None else scale * first + alpha * (scale * second)
        if second is None:
            return (scale * first).log_softmax(2)
        parts = zip((first, second), (1, alpha), strict=True)
        return torch.logaddexp(*[(scale * p).log_softmax(2) + math.log(w / (1 + alpha)) for p, w in parts])

    def _branch(self, maps: RelationMaps, of_class: Tensor | None, of_query: Tensor | None, metric: str) -> Tensor:
        """Cosine of attended cubes; attention [b, q or 1, way, L] and [b, q, way or 1, L], None for none."""
        b, q, way, size = maps.cross.shape[:-1]
        class_weights, query_weights = self._weigh(of_class), self._weigh(of_query)
        if class_weights is None:
            class_weights = maps.cross.new_ones(b, 1, way, size)
        if metric == "dense":
            return dense_cosine(maps, class_weights)
        if query_weights is None:
            query_weights = maps.cross.new_ones(b, q, 1, size)
        cosine = pooled_cosine if metric == "pool" else flat_cosine
        return cosine(maps, class_weights, query_weights)

    def _weigh(self, attention: Tensor | None) -> Tensor | None:
        """Weights of positions; None (all 1) without attention."""
        return None if attention is None else self.weigh(attention)

    def weigh(self, attention: Tensor) -> Tensor:
        """Weights of positions: 1 + A, equation (5), or A without the residual."""
        return 1 + attention if self.residual else attention

    def _require_cubes(self, related: RelatedEpisode) -> None:
        if related.cube_shape != self.cube_shape:
            built = f"this MASTAF was built for cubes {self.cube_shape}"
            raise FewShotError(f"cubes {related.cube_shape} must be {self.cube_shape}: {built}; build one for these")

    def _loss_needs_query_self(self, queries: int) -> bool:
        """Whether the loss, or its running statistics, depend on the query's attention to itself."""
        if self.variant not in ("self", "full"):
            return False
        profile = self.profile
        normalised = self.training and profile.meta_norm == "bn" and profile.query_self_norm == "authors"
        read = self.variant == "self" and profile.global_input == "query_true" and self.classifier is not None
        return profile.train_metric != "dense" or read or (normalised and queries > 1)

    def _global_loss(self, related: RelatedEpisode, attention: Attention, smoothing: float) -> Tensor:
        """L2, a scalar: the training class read from the variant's own attended cubes."""
        classes, queries = related.classes, related.queries
        if self.classifier is None or classes is None or queries is None:
            raise RuntimeError("a global loss needs a classifier and cubes")
        crosses = self.variant in ("cross", "full")
        if self.profile.global_input == "support":
            of_class = attention.class_cross if crosses else _unsqueeze(attention.class_self, 1)  # [b, q or 1, way, L]
            weights = self._weigh(of_class)
            return self.classifier.pooled_loss(classes, weights, related.class_ids, smoothing=smoothing)
        of_query = attention.query_self  # [b, q, L]
        if crosses and attention.query_cross is not None:
            true = related.labels[:, :, None, None].expand(-1, -1, 1, queries.shape[-1])  # [b, q, 1, L]
            of_query = attention.query_cross.gather(2, true).squeeze(2)  # [b, q, L]
        ids = related.class_ids.gather(1, related.labels)  # [b, q]
        return self.classifier.dense_loss(queries, self._weigh(of_query), ids, smoothing=smoothing)


def _unsqueeze(attention: Tensor | None, axis: int) -> Tensor | None:
    return None if attention is None else attention.unsqueeze(axis)
