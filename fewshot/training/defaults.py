"""Training schedules: what is published for a data set, and what is used elsewhere."""

from dataclasses import dataclass
from typing import TypeVar, Unpack

from ..errors import FewShotError
from ..methods.base import Defaults
from .optimisation import Optimisation, check_optimisation

# Episodes per update and training episodes of Liu et al., "MASTAF", WACV 2023, by name of the data set.
PUBLISHED_SCHEDULES: dict[str, tuple[int, int]] = {
    "ucf101": (128, 128_000),
    "hmdb51": (64, 128_000),
    "ssv2-cmn": (32, 128_000),
    "ssv2-otam": (32, 256_000),
}
OTHER_SCHEDULE = (32, 4_000)

VALIDATIONS = 20  # a training run validates at most this often
VAL_EPISODES = 1_000
TEST_EPISODES = 10_000

# Learning rate and weight decay of an optimiser that is not the method's own, whose published ones do not carry over.
_USUAL = {"sgd": (0.01, 0.0), "adam": (0.001, 0.0), "adamw": (0.001, 0.01)}
_STAGES = 3

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A resolved schedule. batch: episodes per update; val_every: in episodes; the rest as in `RunConfig`."""

    optimiser: str
    lr: float
    momentum: float
    weight_decay: float
    schedule: str
    step_every: int | None
    step_factor: float | None
    clip_norm: float | None
    label_smoothing: float
    train_precision: str
    batch: int
    train_episodes: int
    val_every: int


def resolve_schedule(
    dataset: str,
    defaults: Defaults,
    *,
    batch: int | None = None,
    episodes: int | None = None,
    val_every: int | None = None,
    **given: Unpack[Optimisation],
) -> Schedule:
    """What was asked for, else the method's own published value, else the data set's, else the general one.

    `val_every` is rounded up to whole updates. Raises FewShotError for what cannot be.
    """
    check_optimisation(given)
    set_batch, set_episodes = PUBLISHED_SCHEDULES.get(dataset, OTHER_SCHEDULE)
    batch = _first(batch, defaults.batch, set_batch)
    episodes = _first(episodes, defaults.episodes, set_episodes)
    # A validation should cost no more than the training that it judges.
    wanted = _first(val_every, max(episodes // VALIDATIONS, min(VAL_EPISODES, episodes)))
    optimiser = _first(given.get("optimiser"), defaults.optimiser)
    own = optimiser == defaults.optimiser
    lr, decay = (defaults.lr, defaults.weight_decay) if own else _USUAL[optimiser]
    schedule, step_every, step_factor = _steps(defaults, given, episodes)
    return Schedule(
        optimiser=optimiser,
        lr=_first(given.get("lr"), lr),
        momentum=defaults.momentum if own else 0.0,
        weight_decay=_first(given.get("weight_decay"), decay),
        schedule=schedule,
        step_every=step_every,
        step_factor=step_factor,
        clip_norm=given.get("clip_norm"),
        label_smoothing=_first(given.get("label_smoothing"), 0.0),
        train_precision=_first(given.get("train_precision"), "fp32"),
        batch=batch,
        train_episodes=episodes,
        val_every=-(-wanted // batch) * batch,
    )


def _steps(defaults: Defaults, given: Optimisation, episodes: int) -> tuple[str, int | None, float | None]:
    """Schedule, and its steps if it is `step`: by default three stages of one length, each at a tenth of the last."""
    schedule = _first(given.get("schedule"), defaults.schedule)
    every, factor = given.get("step_every"), given.get("step_factor")
    if schedule != "step":
        if every is not None or factor is not None:
            raise FewShotError(
                f"step_every and step_factor belong to schedule 'step', not '{schedule}'; leave them out"
            )
        return schedule, None, None
    return schedule, _first(every, defaults.step_every, -(-episodes // _STAGES)), _first(factor, defaults.step_factor)


def _first(*values: Value | None) -> Value:
    return next(value for value in values if value is not None)
