"""Training schedules: what is published for a data set, and what is used elsewhere."""

from dataclasses import dataclass

from .methods.base import Defaults

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


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A resolved schedule. batch: episodes per update; val_every: in episodes."""

    optimiser: str
    lr: float
    momentum: float
    weight_decay: float
    batch: int
    train_episodes: int
    val_every: int


def resolve_schedule(
    dataset: str,
    defaults: Defaults,
    *,
    batch: int | None = None,
    episodes: int | None = None,
    lr: float | None = None,
    val_every: int | None = None,
) -> Schedule:
    """What was asked for, else the method's own published value, else the data set's, else the general one.

    `val_every` is rounded up to whole updates.
    """
    set_batch, set_episodes = PUBLISHED_SCHEDULES.get(dataset, OTHER_SCHEDULE)
    batch = _first(batch, defaults.batch, set_batch)
    episodes = _first(episodes, defaults.episodes, set_episodes)
    # A validation should cost no more than the training that it judges.
    wanted = _first(val_every, max(episodes // VALIDATIONS, min(VAL_EPISODES, episodes)))
    return Schedule(
        optimiser=defaults.optimiser,
        lr=defaults.lr if lr is None else lr,
        momentum=defaults.momentum,
        weight_decay=defaults.weight_decay,
        batch=batch,
        train_episodes=episodes,
        val_every=-(-wanted // batch) * batch,
    )


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)
