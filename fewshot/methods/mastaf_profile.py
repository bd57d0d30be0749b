"""MASTAF's two readings: what the paper's text says, and what its authors' code does."""

from dataclasses import dataclass

from ...cache.checks import fit_fields
from ...cache.errors import CacheError
from ..errors import FewShotError

CHOICES = {
    "meta_norm": ("none", "bn"),
    "query_self_norm": ("skip", "authors"),
    "reduce": ("sum", "mean"),
    "fusion": ("prob", "logit"),
    "train_metric": ("dense", "pool", "flat"),
    "test_metric": ("pool", "flat"),
    "global_input": ("query_true", "support"),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Every choice in which the paper's text and the authors' code differ, and their common numbers.

    normalize_maps: relations are cosines, else raw inner products. meta_norm: BatchNorm inside the meta-learner;
    the calls with one way skip it, and so does the query's self map: always (`skip`, so that a query's score does
    not depend on its neighbours) or only for a single query (`authors`). reduce: how a relation vector meets the
    kernel d, as d . M_i or as its mean. scale: factor of every cosine. fusion: average of two probabilities, or sum
    of two logits. alpha: weight of the self branch beside the cross branch. train_metric, test_metric: each query
    position against the pooled class, pooled cubes, or whole cubes as vectors. global_input: what the global
    classifier reads, the query attended towards its true way, at each position, or the support's pooled cubes.
    loss = loss_scale * (L1 + global_weight * L2), global_weight being the paper's lambda. tau: temperature of the
    attention. bottleneck: the paper's l.
    """

    normalize_maps: bool
    meta_norm: str
    reduce: str
    scale: float
    fusion: str
    train_metric: str
    global_input: str
    loss_scale: float
    query_self_norm: str = "skip"
    test_metric: str = "pool"
    alpha: float = 1.0
    tau: float = 0.025
    bottleneck: int = 6
    global_weight: float = 2.0

    def __post_init__(self) -> None:
        try:
            fit_fields(self)
        except CacheError as error:
            raise FewShotError(str(error)) from None
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise FewShotError(f"{name} ({getattr(self, name)!r}) must be one of {', '.join(allowed)}")
        for name in ("scale", "loss_scale", "tau", "bottleneck"):
            if getattr(self, name) <= 0:
                raise FewShotError(f"{name} ({getattr(self, name)}) must be above 0")
        for name in ("alpha", "global_weight"):
            if getattr(self, name) < 0:
                raise FewShotError(f"{name} ({getattr(self, name)}) must not be negative")


PRESETS = {
    "code": Profile(
        normalize_maps=True,
        meta_norm="bn",
        reduce="mean",
        scale=7.0,
        fusion="logit",
        train_metric="dense",
        global_input="query_true",
        loss_scale=0.5,
    ),
    "paper": Profile(
        normalize_maps=False,
        meta_norm="none",
        reduce="sum",
        scale=1.0,
        fusion="prob",
        train_metric="pool",
        global_input="support",
        loss_scale=1.0,
    ),
}
