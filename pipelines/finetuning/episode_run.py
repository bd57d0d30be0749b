"""What the episodic recipes share: options, the task, and the head's run that comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self, cast

from ...cache.spec import FeatureSpec
from ...extract.backbones.base import Backbone
from ...fewshot.cubes.bank import videos_digest
from ...fewshot.environment import describe_device, versions
from ...fewshot.episodes.sampler import EpisodeSampler
from ...fewshot.training.run_config import RunConfig
from ..errors import PipelineError
from .episodic import LiveScore, calibrate, episode_task
from .heads import HeadPlan, live_spec, selecting_episodes
from .progress import Progress
from .results import HEAD_FOLDER, write_head
from .running import Ready, Start
from .sources import Source
from .tuning import Asked, Tuning, episode_tuning

_FEWEST = {"way": 2, "shot": 1, "train_episodes": 1, "val_episodes": 2, "val_every": 1, "patience": 1}


class EpisodeAsked(Asked, total=False):
    """Keyword arguments of both recipes: those of every recipe, and what `EpisodeOptions` holds.

    method, method_keywords: of the head, as in stage two, or head: a run on cubes of the same weights to go on from;
    way, shot, query_mode, queries: of an episode; train_episodes, val_episodes, val_every, patience: see
    `TrainSettings`; select_on: `val`, scored with the network as it is then, or `none` for the last weights.
    """

    method: str | None
    method_keywords: Mapping[str, Any] | None
    head: Path | None
    way: int
    shot: int
    query_mode: str | None
    queries: int | None
    train_episodes: int | None
    val_episodes: int | None
    val_every: int | None
    patience: int | None
    select_on: str


@dataclass(frozen=True, kw_only=True)
class EpisodeOptions:
    """What `EpisodeAsked` came to, without what it shares with other recipes."""

    method: str | None = None
    keywords: dict[str, Any]
    head: Path | None = None
    way: int = 5
    shot: int = 1
    query_mode: str | None = None
    queries: int | None = None
    train_episodes: int | None = None
    val_episodes: int | None = None
    val_every: int | None = None
    patience: int | None = None
    select_on: str = "val"

    @classmethod
    def of(cls, asked: EpisodeAsked) -> tuple[Self, Asked]:
        """These options, and what is left of those that were asked for. PipelineError for values that cannot be."""
        left: dict[str, Any] = dict(asked)
        own = {field.name: left.pop(field.name) for field in fields(cls) if field.name in left}
        options = cls(keywords=dict(left.pop("method_keywords", None) or {}), **own)
        return options, cast(Asked, left)

    def __post_init__(self) -> None:
        for name, least in _FEWEST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise PipelineError(f"{name} ({value}) must be at least {least}")
        if self.head is not None and (self.method or self.keywords):
            raise PipelineError("head fixes the method: give --head, or a method with its options, not both")
        if self.select_on == "none" and any((self.val_episodes, self.val_every, self.patience)):
            raise PipelineError("val_episodes, val_every and patience need --select-on val; leave them out")

    def settings(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self) | {"head": None if self.head is None else str(self.head)}

    def of_head(self) -> dict[str, Any]:
        """Keyword arguments of `plan_head`."""
        drawn = {name: getattr(self, name) for name in ("way", "shot", "query_mode", "queries")}
        return {"method": self.method or "mastaf", "keywords": self.keywords, "start": self.head, **drawn}


@dataclass(frozen=True)
class Split:
    """What a run's settings say of its data. keys: of all videos of the data set; train_classes: sorted."""

    dataset: str
    split_scheme: str
    keys: tuple[str, ...]
    train_classes: tuple[str, ...]


def episode_ready(
    began: Start,
    plan: HeadPlan,
    options: EpisodeOptions,
    *,
    train: Source,
    val: Source | None,
    data: Split,
    extra: Mapping[str, Any],
    close: Callable[[], None],
    notes: Sequence[str],
    failures: Sequence[Mapping[str, str]] = (),
    front: str | None = None,
    spec: FeatureSpec | None = None,
) -> Ready:
    """The run of either recipe once its data is at hand. front: the stage whose stored cubes are trained on; spec: the
    recipe of the cubes in the end, where it is not that of the live ones."""
    base, device = began.base, began.device
    tuning, val_every = episode_tuning(
        began.asked,
        plan.method.defaults,
        data.dataset,
        episodes=options.train_episodes,
        val_every=options.val_every,
        precision=began.precision,
        seed=began.seed,
    )
    sampler = EpisodeSampler(keys=train.keys, classes=train.classes, split="train", seed=began.seed, **plan.drawn)
    rows = None if val is None else selecting_episodes(val.keys, val.classes, options.val_episodes, plan.scored)
    if options.head is None:
        calibrate(plan.method, train, base, precision=began.precision, device=device)
    ids = {name: number for number, name in enumerate(data.train_classes)}
    task = episode_task(base, plan.method, train, sampler, tuning, train_class_ids=ids, device=device, front=front)
    if val is not None and rows is not None:
        score = LiveScore(base, plan.method, val, rows, precision=began.precision, device=device)
        task = replace(task, validate=score, val_every=val_every)
    videos = {s.split: videos_digest(s.split, s.keys, s.classes) for s in (train, val) if s is not None}
    config = _config(
        began,
        plan,
        tuning,
        data,
        spec=spec or live_spec(base, began.precision),
        videos=videos,
        val_every=val_every,
        patience=options.patience,
        val_episodes=None if rows is None else len(rows),
    )

    def head_run(tuned: Backbone, progress: Progress) -> None:
        final = replace(config.spec, weights=tuned.weights_sha256)
        tuned_config = replace(config, spec=final, store=final.store(data.split_scheme, data.keys))
        episodes = min(progress.updates * tuning.batch, tuning.total)
        write_head(began.out / HEAD_FOLDER, plan.method, tuned_config, progress, episodes)

    return Ready(
        task=task,
        tuning=tuning,
        seen={"dataset": data.dataset, "split_scheme": data.split_scheme, "classes": list(data.train_classes)},
        clips=len(train.keys),
        options={"method": plan.name, "keywords": plan.method.describe(), **plan.drawn, **extra},
        close=close,
        videos=videos,
        failures=failures,
        patience=options.patience,
        write_head=head_run,
        notes=notes,
    )


def _config(
    began: Start,
    plan: HeadPlan,
    tuning: Tuning,
    data: Split,
    *,
    spec: FeatureSpec,
    videos: Mapping[str, str],
    val_every: int,
    val_episodes: int | None,
    patience: int | None,
) -> RunConfig:
    """The settings of the head's run, for the cubes that there are before the training."""
    same = ("seed", "optimiser", "momentum", "weight_decay", "batch", "schedule", "step_every", "step_factor")
    return RunConfig(
        method=plan.name,
        keywords=plan.method.describe(),
        spec=spec,
        store=spec.store(data.split_scheme, data.keys),
        dataset=data.dataset,
        split_scheme=data.split_scheme,
        train_classes=data.train_classes,
        train_videos=videos["train"],
        val_videos=videos.get("val", ""),
        **plan.drawn,
        **{name: getattr(tuning, name) for name in (*same, "clip_norm", "label_smoothing")},
        lr=tuning.head_lr,
        train_episodes=tuning.total,
        val_every=val_every,
        val_episodes=val_episodes,
        patience=patience,
        views=(0,),
        select_on="none" if val_episodes is None else "val",
        provenance={
            "versions": versions(),
            "device": describe_device(began.device),
            "store": str(began.out),
            "recipe": began.recipe,
        },
    )
