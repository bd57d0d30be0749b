"""Fine-tuning by the recipe `episodic`: backbone, meta-learner and global classifier end to end, from videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from ...extract.datasets.by_name import find_dataset
from ...extract.datasets.videos import VideoSet
from ...extract.report import say_what_was_found
from ..errors import PipelineError
from ..outputs import default_folder
from .episode_run import EpisodeAsked, EpisodeOptions, Split, episode_ready
from .heads import plan_head, selects
from .running import Ready, Start, carry_out, loader, start
from .sources import LiveSource
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
    augmentations: Sequence[str] | None = None,
    precision: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    frame_cache: Path | None = None,
    cache_frames: int | None = None,
    weights_dtype: str = "float32",
    seed: int = 0,
    out: Path | None = None,
    **asked: Unpack[EpisodeAsked],
) -> dict[str, Any]:
    """Train network and head by the head's own loss on episodes of the train classes: evenly sampled frames, the
    centre crop, and every other clip mirrored where that keeps its class.

    time: `mean` for cubes averaged over time; augmentations: `flip` or none; frame_cache, cache_frames: see
    `tune_by_classes`; batch: episodes an update, one after the other through the network unless `accumulate` says;
    asked: see `EpisodeAsked`, the rest as in `tune_by_classes`.
    """
    wrong = [name for name in augmentations or () if name not in CHANGES]
    if wrong:
        raise PipelineError(f"augment ('{wrong[0]}') must be {', '.join(CHANGES)} or none with --recipe episodic")
    options, rest = EpisodeOptions.of(asked)
    cache = cache_options(frame_cache, cache_frames)
    began = start(
        recipe="episodic",
        out=out or default_folder(dataset, root, backbone, "episodic"),
        load=loader(backbone, revision=revision, frames=frames, size=size, resize=resize, time=time, seed=seed),
        weights=weights,
        layers=lambda base: base.layers,
        asked=rest,
        precision=precision,
        device=device,
        seed=seed,
        weights_dtype=weights_dtype,
        videos={"dataset": dataset, "root": root, "split_files": split_files, "follow_links": follow_links},
    )
    videos = find_dataset(dataset, root=root, split_files=split_files, seed=seed, follow_links=follow_links)
    say_what_was_found(videos)
    require_train_classes(videos.index.classes_of("train"), options.way, videos.name, videos.root)
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
