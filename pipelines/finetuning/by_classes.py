"""Fine-tuning by the recipe `classify`, from videos to weights: the base-tuned backbone."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

from ...extract.datasets.by_name import find_dataset
from ...extract.datasets.videos import VideoSet
from ...extract.report import say_what_was_found
from ...fewshot.cubes.bank import videos_digest
from ..errors import PipelineError
from ..outputs import default_folder
from .augment import check_augmentations, default_augmentations
from .classify import classify_task
from .running import Ready, Start, carry_out, loader, start
from .tuning import Asked, classify_tuning
from .videos import CacheOptions, cache_options, open_split, require_train_classes


def tune_by_classes(
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
    epochs: float | None = None,
    steps: int | None = None,
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
    """Train by supervised cross-entropy over the train classes alone, after mean pooling of the cube.

    weights, revision: where to start, see `load_backbone`; epochs or steps: how long (40 epochs); lr: 2e-3 from random
    weights, 2e-4 from trained ones; augmentations: names of `augment.AUGMENTATIONS`, None for what suits the data set;
    frame_cache: a folder of frames that are decoded once; cache_frames: so many more of each clip, of which training
    draws; seed: of all random choices, a folder's class split among them, as in extraction; asked: see `Asked`.
    """
    if epochs is not None and not (math.isfinite(epochs) and epochs > 0):
        raise PipelineError(f"epochs ({epochs}) must be a finite number above 0")
    check_augmentations(augmentations or ())
    cache = cache_options(frame_cache, cache_frames)
    began = start(
        recipe="classify",
        out=out or default_folder(dataset, root, backbone, "classify"),
        load=loader(backbone, revision=revision, frames=frames, size=size, resize=resize, seed=seed),
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
    names = default_augmentations(videos.name, videos.flip_keeps_class) if augmentations is None else augmentations
    require_train_classes(videos.index.classes_of("train"), 2, videos.name, videos.root)

    def prepare() -> Ready:
        return _prepare(began, videos, tuple(names), epochs, steps, workers, cache)

    listed = {"dataset": videos.name, "split_scheme": videos.split_scheme, "augmentations": list(names)}
    return carry_out(began, prepare, **listed, epochs=epochs, steps=steps, cache_frames=cache_frames)


def _prepare(
    began: Start,
    videos: VideoSet,
    augmentations: tuple[str, ...],
    epochs: float | None,
    steps: int | None,
    workers: int | None,
    cache: CacheOptions | None,
) -> Ready:
    # The whole resized picture is kept, so that a random crop can be cut from it.
    clips = open_split(videos, "train", began.base, workers=workers, cache=cache, whole=True)
    names = clips.class_names
    labels = dict(zip(clips.rows.tolist(), map(names.index, clips.classes), strict=True))
    how = {"precision": began.precision, "seed": began.seed}
    tuning = classify_tuning(began.asked, began.base, clips=len(labels), epochs=epochs, steps=steps, **how)
    task = classify_task(
        began.base,
        clips.source,
        labels,
        tuning,
        n_classes=len(names),
        augmentations=augmentations,
        device=began.device,
    )
    return Ready(
        task=task,
        tuning=tuning,
        seen={"dataset": videos.name, "split_scheme": videos.split_scheme, "classes": names},
        clips=len(labels),
        options={"augmentations": list(augmentations)},
        close=clips.source.close,
        videos={"train": videos_digest("train", clips.keys, clips.classes)},
        failures=clips.failures,
    )
