"""Fine-tuning by the recipe `episodic`: backbone, meta-learner and global classifier end to end, from videos."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ...extract.datasets.by_name import find_dataset
from ...extract.datasets.videos import VideoSet
from ...extract.report import say_what_was_found
from ..errors import PipelineError
from ..outputs import default_folder
from .episode_run import EpisodeOptions, Split, episode_ready
from .heads import plan_head, selects
from .running import Ready, Start, carry_out, loader, start
from .sources import LiveSource
from .tuning import Asked
from .videos import CacheOptions, SplitClips, cache_options, open_split, require_train_classes

CHANGES = ("flip",)  # of a clip, in this recipe


def tune_by_episodes(
    *,
    dataset: str = "motion",
    root: Path | None = None,
    split_files: Path | None = None,
    follow_links: bool = False,
    backbone: str = "r3d-tiny",
    weights: str | None = None,
    revision: str | None = None,
    frames: int | None = None,
    size: int | None = None,
    resize: str = "squash",
    time: str = "keep",
    method: str | None = None,
    method_keywords: Mapping[str, Any] | None = None,
    head: Path | None = None,
    way: int = 5,
    shot: int = 1,
    query_mode: str | None = None,
    queries: int | None = None,
    train_episodes: int | None = None,
    val_episodes: int | None = None,
    val_every: int | None = None,
    patience: int | None = None,
    select_on: str = "val",
    augmentations: Sequence[str] | None = None,
    precision: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    frame_cache: Path | None = None,
    cache_frames: int | None = None,
    weights_dtype: str = "float32",
    seed: int = 0,
    out: Path | None = None,
    **asked: Unpack[Asked],
) -> dict[str, Any]:
    """Train network and head by the head's own loss on episodes of the train classes: evenly sampled frames, the
    centre crop, and every other clip mirrored where that keeps its class.

    time: `mean` for cubes averaged over time; method, method_keywords: of the head, as in stage two, or head: a run on
    cubes of the same weights to go on from; train_episodes, val_episodes, val_every, patience: see `TrainSettings`;
    select_on: `val`, scored with the network as it is then, or `none` for the last weights; augmentations: `flip` or
    none; frame_cache, cache_frames: see `tune_by_classes`; batch: episodes an update, one after the other through the
    network unless `accumulate` says; asked: see `Asked`, the rest as in `tune_by_classes`.
    """
    wrong = [name for name in augmentations or () if name not in CHANGES]
    if wrong:
        raise PipelineError(f"augment ('{wrong[0]}') must be {', '.join(CHANGES)} or none with --recipe episodic")
    options = EpisodeOptions(
        method=method,
        keywords=dict(method_keywords or {}),
        head=head,
        way=way,
        shot=shot,
        query_mode=query_mode,
        queries=queries,
        train_episodes=train_episodes,
        val_episodes=val_episodes,
        val_every=val_every,
        patience=patience,
        select_on=select_on,
    )
    cache = cache_options(frame_cache, cache_frames)
    began = start(
        recipe="episodic",
        out=out or default_folder(dataset, root, backbone, "episodic"),
        load=loader(backbone, revision=revision, frames=frames, size=size, resize=resize, time=time, seed=seed),
        weights=weights,
        layers=lambda base: base.layers,
        asked=asked,
        precision=precision,
        device=device,
        seed=seed,
        weights_dtype=weights_dtype,
        videos={"dataset": dataset, "root": root, "split_files": split_files, "follow_links": follow_links},
    )
    videos = find_dataset(dataset, root=root, split_files=split_files, seed=seed, follow_links=follow_links)
    say_what_was_found(videos)
    require_train_classes(videos.index.classes_of("train"), way, videos.name, videos.root)
    flip = videos.flip_keeps_class if augmentations is None else "flip" in augmentations

    def prepare() -> Ready:
        return _prepare(began, videos, options, ("plain", "flip") if flip else ("plain",), workers, cache)

    listed = {"dataset": videos.name, "split_scheme": videos.split_scheme, "flip": flip, "cache_frames": cache_frames}
    return carry_out(began, prepare, **listed, **options.settings())


def _prepare(
    began: Start,
    videos: VideoSet,
    options: EpisodeOptions,
    views: tuple[str, ...],
    workers: int | None,
    cache: CacheOptions | None,
) -> Ready:
    base, index, notes = began.base, videos.index, list[str]()
    classes = index.classes_of("train")
    plan = plan_head(base, classes, **options.of_head())
    used = ["train"]
    if selects(options.select_on, index.classes_of("val"), options.way, notes):
        used.append("val")
    opened: list[SplitClips] = []

    def close() -> None:
        for clips in opened:
            clips.source.close()

    try:
        for split in used:
            opened.append(open_split(videos, split, base, workers=workers, cache=cache))
        sources = [LiveSource(clips, base, views if clips.split == "train" else ("plain",)) for clips in opened]
        return episode_ready(
            began,
            plan,
            options,
            train=sources[0],
            val=sources[1] if len(sources) > 1 else None,
            data=Split(videos.name, videos.split_scheme, tuple(index.keys), tuple(classes)),
            extra={"views": list(views)},
            failures=[failure for clips in opened for failure in clips.failures],
            notes=notes,
            close=close,
        )
    except BaseException:
        close()
        raise
