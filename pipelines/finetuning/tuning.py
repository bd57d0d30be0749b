"""How parameters move in fine-tuning: what was asked for, and what follows from recipe, backbone and head."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from ...extract.backbones.base import Backbone
from ...fewshot.methods.base import Defaults
from ...fewshot.training.defaults import Schedule, resolve_schedule
from ...fewshot.training.optimisation import OPTIMISERS, SCHEDULES, Optimisation
from ..errors import PipelineError

BATCHNORM = ("train", "frozen")
CLIPS_A_STEP, EPOCHS = 32, 40  # of the recipe classify
# Updates of it in which the learning rate rises: a share; at least so many, because fewer left random weights at chance
# (docs/finetune.md); and half of a run at most.
_RISE, _LEAST_RISE, _MOST_RISE = 0.05, 30, 0.5


class Asked(TypedDict, total=False):
    """Keyword arguments of `finetune` that say how parameters move; left out or None: the recipe's own value.

    lr: of the backbone; head_lr: of what reads its cubes; weight_decay: of all but scales and biases; schedule: of
    SCHEDULES; step_every, step_factor: with `step`, in clips (classify) or episodes; warm_up: share of the updates in
    which the learning rate rises to the schedule's; clip_norm: the gradient is shortened to this length; batch: clips
    or episodes an update; accumulate: parts of an update that go through the network one after the other; freeze:
    stages that stay as they are, running statistics too; batchnorm: `train`, or `frozen` to normalise by the running
    statistics and leave them; checkpointing: see `StagedNet`.
    """

    optimiser: str | None
    lr: float | None
    head_lr: float | None
    weight_decay: float | None
    schedule: str | None
    step_every: int | None
    step_factor: float | None
    warm_up: float | None
    clip_norm: float | None
    label_smoothing: float | None
    batch: int | None
    accumulate: int | None
    freeze: Sequence[str] | None
    batchnorm: str | None
    checkpointing: bool


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What `Asked` came to. total: clips or episodes of the whole run; the rest as there."""

    optimiser: str
    lr: float
    head_lr: float
    momentum: float
    weight_decay: float
    schedule: str
    step_every: int | None
    step_factor: float | None
    warm_up: float
    clip_norm: float | None
    label_smoothing: float
    batch: int
    total: int
    accumulate: int
    freeze: tuple[str, ...]
    batchnorm: str
    checkpointing: bool
    precision: str
    seed: int

    @property
    def updates(self) -> int:
        """Of the whole run; the last one may be smaller."""
        return -(-self.total // self.batch)

    def count(self, update: int) -> int:
        """Clips or episodes of an update, counted from 0."""
        return min(self.batch, self.total - update * self.batch)


def check_asked(asked: Asked) -> None:
    """Raise PipelineError for a value that cannot be, whatever the recipe."""
    for name, known in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("batchnorm", BATCHNORM)):
        if asked.get(name) not in (None, *known):
            raise PipelineError(f"{name} ({asked.get(name)}) must be one of {', '.join(known)}")
    for name in ("lr", "head_lr", "weight_decay", "step_factor", "clip_norm", "warm_up", "label_smoothing"):
        value = asked.get(name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise PipelineError(f"{name} ({value}) must be a finite number of at least 0")
    for name in ("warm_up", "label_smoothing"):
        share = asked.get(name)
        if share is not None and share >= 1:
            raise PipelineError(f"{name} ({share}) must be below 1")
    for name in ("batch", "accumulate", "step_every"):
        value = asked.get(name)
        if value is not None and value < 1:
            raise PipelineError(f"{name} ({value}) must be at least 1")


def check_freeze(asked: Asked, layers: Sequence[str]) -> None:
    """Raise PipelineError unless `freeze` names stages of the network, and not all that are trained: `layers`."""
    names = tuple(asked.get("freeze") or ())
    unknown = [name for name in names if name not in layers]
    if unknown:
        raise PipelineError(f"freeze ('{unknown[0]}') must be of the stages that are trained: {', '.join(layers)}")
    if set(names) == set(layers):
        raise PipelineError(f"freeze ({', '.join(names)}) must leave a stage to train; name fewer")


def require_parts(tuning: Tuning, processes: int) -> None:
    """Raise PipelineError unless every update has a part for each process."""
    last = tuning.count(tuning.updates - 1)
    if min(tuning.accumulate, last) < processes:
        raise PipelineError(
            f"accumulate ({tuning.accumulate}), and the last update's {last} clips or episodes, must be at least the "
            f"{processes} processes, so that each has a part; raise --accumulate, or change --batch or the run's length"
        )


def classify_tuning(
    asked: Asked, base: Backbone, *, clips: int, epochs: float | None, steps: int | None, precision: str, seed: int
) -> Tuning:
    """Of the recipe `classify` on so many clips."""
    usual = 2e-3 if base.weights_source.startswith("random") else 2e-4
    own = Defaults(optimiser="adamw", lr=usual, weight_decay=0.05, schedule="cosine")
    batch = asked.get("batch") or CLIPS_A_STEP
    steps = steps or max(1, round((epochs or EPOCHS) * clips / batch))
    found = _schedule(asked, own, "", batch=batch, episodes=steps * batch)
    lr = _first(asked.get("lr"), found.lr)
    rise = min(max(_RISE, _LEAST_RISE / steps), _MOST_RISE)
    rates = {"lr": lr, "head_lr": _first(asked.get("head_lr"), lr), "warm_up": _first(asked.get("warm_up"), rise)}
    return _tuning(asked, found, **rates, parts=1, precision=precision, seed=seed)


def episode_tuning(
    asked: Asked,
    defaults: Defaults,
    dataset: str,
    *,
    episodes: int | None,
    val_every: int | None,
    precision: str,
    seed: int,
) -> tuple[Tuning, int]:
    """Of the episodic recipes; also after how many episodes val is scored. Optimiser and schedule are the head's own;
    the backbone's learning rate is the head's with SGD, as MASTAF's authors have it, else a tenth of it."""
    found = _schedule(asked, defaults, dataset, batch=asked.get("batch"), episodes=episodes, val_every=val_every)
    head_lr = _first(asked.get("head_lr"), found.lr)
    lr = _first(asked.get("lr"), head_lr if found.optimiser == "sgd" else 0.1 * head_lr)
    rates = {"lr": lr, "head_lr": head_lr, "warm_up": asked.get("warm_up") or 0.0}
    return _tuning(asked, found, **rates, parts=found.batch, precision=precision, seed=seed), found.val_every


def _schedule(
    asked: Asked,
    defaults: Defaults,
    dataset: str,
    *,
    batch: int | None,
    episodes: int | None,
    val_every: int | None = None,
) -> Schedule:
    """Settled as those of a head: see `resolve_schedule`."""
    given: Optimisation = {
        "optimiser": asked.get("optimiser"),
        "weight_decay": asked.get("weight_decay"),
        "schedule": asked.get("schedule"),
        "step_every": asked.get("step_every"),
        "step_factor": asked.get("step_factor"),
        "clip_norm": asked.get("clip_norm"),
        "label_smoothing": asked.get("label_smoothing"),
    }
    return resolve_schedule(dataset, defaults, batch=batch, episodes=episodes, val_every=val_every, **given)


def _tuning(
    asked: Asked,
    found: Schedule,
    *,
    lr: float,
    head_lr: float,
    warm_up: float,
    parts: int,
    precision: str,
    seed: int,
) -> Tuning:
    return Tuning(
        optimiser=found.optimiser,
        lr=lr,
        head_lr=head_lr,
        momentum=found.momentum,
        weight_decay=found.weight_decay,
        schedule=found.schedule,
        step_every=found.step_every,
        step_factor=found.step_factor,
        warm_up=warm_up,
        clip_norm=found.clip_norm,
        label_smoothing=found.label_smoothing,
        batch=found.batch,
        total=found.train_episodes,
        accumulate=min(asked.get("accumulate") or parts, found.batch),
        freeze=tuple(asked.get("freeze") or ()),
        batchnorm=asked.get("batchnorm") or "train",
        checkpointing=bool(asked.get("checkpointing")),
        precision=precision,
        seed=seed,
    )


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)
