"""The settings of how parameters move, and the learning rate over a run.

The learning rate is a function of the episodes trained so far, so a run that continues needs no state for it. The
command line takes its choices from here, so torch is not imported.
"""

import math
from typing import TYPE_CHECKING, TypedDict

from ..errors import FewShotError

if TYPE_CHECKING:
    from .run_config import RunConfig

OPTIMISERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "step")
PRECISIONS = ("fp32", "bf16")


class Optimisation(TypedDict, total=False):
    """Keyword arguments of `train` that say how parameters move; left out or None: the method's own value.

    optimiser: of OPTIMISERS; lr; weight_decay: in AdamW decoupled, else added to the gradient; schedule: `constant`;
    `cosine`, from lr to 0 over the run; `step`, times `step_factor` every `step_every` episodes; clip_norm: the
    gradient is shortened to this length; label_smoothing: share of each target spread over all classes;
    train_precision: `bf16` computes losses in mixed precision (scores stay float32).
    """

    optimiser: str | None
    lr: float | None
    weight_decay: float | None
    schedule: str | None
    step_every: int | None
    step_factor: float | None
    clip_norm: float | None
    label_smoothing: float | None
    train_precision: str | None


def check_optimisation(given: Optimisation) -> None:
    """Raise FewShotError for a value that cannot be, and for options that contradict each other."""
    for name, known in (("optimiser", OPTIMISERS), ("schedule", SCHEDULES), ("train_precision", PRECISIONS)):
        if given.get(name) not in (None, *known):
            raise FewShotError(f"{name} ({given[name]}) must be one of {', '.join(known)}")
    for name in ("lr", "step_factor", "clip_norm", "step_every"):
        value = given.get(name)
        if value is not None and not 0 < value < math.inf:
            raise FewShotError(f"{name} ({value}) must be a number above 0")
    decay, smoothing = given.get("weight_decay"), given.get("label_smoothing")
    if decay is not None and not 0 <= decay < math.inf:
        raise FewShotError(f"weight_decay ({decay}) must be a number of at least 0")
    if smoothing is not None and not 0 <= smoothing < 1:
        raise FewShotError(f"label_smoothing ({smoothing}) must be at least 0 and below 1")


def learning_rate(config: "RunConfig", episodes: int) -> float:
    """Of the update that begins after so many episodes."""
    steps = {"step_every": config.step_every, "step_factor": config.step_factor}
    return config.lr * schedule_factor(config.schedule, episodes, config.train_episodes, **steps)


def schedule_factor(
    schedule: str, done: int, total: int, *, step_every: int | None = None, step_factor: float | None = None
) -> float:
    """What the learning rate is multiplied by after `done` of `total` (episodes, or updates)."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done / total)) / 2
    if schedule == "step" and step_every is not None and step_factor is not None:
        return step_factor ** (done // step_every)
    return 1.0
