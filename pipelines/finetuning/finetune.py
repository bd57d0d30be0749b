"""Fine-tuning a backbone on the base classes: the recipe `classify`.

Supervised cross-entropy over the train classes alone, after mean pooling of the cube; val and test classes are never
seen. The result is a weights file with its provenance, which `--weights FILE` takes wherever a backbone is loaded.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...cache.atomic import write_bytes, write_json
from ...extract.backbones.base import Backbone
from ...extract.backbones.inference import resolve_precision
from ...extract.backbones.registry import load_backbone
from ...extract.backbones.weights import write_weights
from ...extract.datasets.by_name import find_dataset
from ...extract.datasets.links import Links
from ...extract.datasets.videos import VideoSet
from ...extract.report import say_what_was_found
from ...fewshot.environment import resolve_device
from ..errors import PipelineError
from ..outputs import default_folder
from .augment import check_augmentations, default_augmentations
from .classify import train
from .clips import ClipSource

RECIPES = ("classify",)
WEIGHTS_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def finetune(
    *,
    dataset: str,
    root: Path | None = None,
    split_files: Path | None = None,
    follow_links: bool = False,
    backbone: str = "r3d-tiny",
    weights: str | None = None,
    revision: str | None = None,
    recipe: str = "classify",
    frames: int | None = None,
    size: int | None = None,
    resize: str = "squash",
    epochs: float | None = None,
    steps: int | None = None,
    batch: int = 32,
    lr: float | None = None,
    weight_decay: float = 0.05,
    augmentations: Sequence[str] | None = None,
    precision: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    weights_dtype: str = "float32",
    seed: int = 0,
    out: Path | None = None,
) -> dict[str, Any]:
    """Fine-tune and write OUT/backbone.safetensors (last), OUT/finetune.json and OUT/metrics.jsonl, and beside them the
    configuration of a model of the hub, without which its weights are no network.

    weights, revision: where to start, see `load_backbone`; epochs or steps: how long (default 40 epochs); lr:
    default 2e-3 from random weights, 2e-4 from trained ones; augmentations: names of `augment.AUGMENTATIONS`, None
    for what suits the data set; seed: of all random choices, a folder's class split among them, as in extraction.
    Returns a summary of plain values. Raises PipelineError, ExtractError, or FewShotError for a device.
    """
    if recipe not in RECIPES:
        raise PipelineError(f"recipe ('{recipe}') must be one of {', '.join(RECIPES)}")
    _check_numbers(epochs=epochs, lr=lr, weight_decay=weight_decay)
    options = {"batch": batch, "weight_decay": weight_decay, "device": str(resolve_device(device)), "seed": seed}
    out = _new_folder(out, default_folder(dataset, root, backbone), recipe)
    check_augmentations(augmentations or ())
    base = load_backbone(
        backbone, weights=weights, revision=revision, frames=frames, size=size, resize=resize, seed=seed
    )
    videos = find_dataset(dataset, root=root, split_files=split_files, seed=seed, follow_links=follow_links)
    say_what_was_found(videos)
    names = default_augmentations(videos.name, videos.flip_keeps_class) if augmentations is None else augmentations
    options |= {"lr": lr or _usual_lr(base), "augmentations": list(names)}
    options["precision"] = resolve_precision(precision, options["device"], frames=base.frames)
    base.prepare_for_inference(options["precision"], options["device"])  # refuses what the machine computes wrongly
    out.mkdir(parents=True, exist_ok=True)  # before the long work
    source, labels, class_names, failures = _clips(videos, base, workers)
    options["steps"] = steps or max(1, round((epochs or 40) * len(labels) / batch))
    try:
        result = train(base, source, labels, n_classes=len(class_names), out=out, **options)
    finally:
        source.close()
    provenance = _provenance(base, videos, class_names, len(labels), recipe, options, result)
    path = out / "backbone.safetensors"
    write_json(out / "finetune.json", provenance)
    for name, content in base.beside.items():
        write_bytes(out / name, content)
    write_weights(path, base.module.state_dict(), provenance=provenance, dtype=WEIGHTS_DTYPES[weights_dtype])
    loaded = load_backbone(backbone, weights=str(path), frames=frames, size=size, resize=resize)
    return {"weights": str(path), "weights_sha256": loaded.weights_sha256, "failures": failures, **provenance}


def _usual_lr(base: Backbone) -> float:
    return 2e-3 if base.weights_source.startswith("random") else 2e-4


def _check_numbers(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise PipelineError(f"{name} ({value}) must be a finite number of at least 0")


def _new_folder(out: Path | None, usual: Path, recipe: str) -> Path:
    """The run's folder, not made yet."""
    out = out or usual.with_name(f"{usual.name}_{recipe}")
    if (out / "backbone.safetensors").exists():
        raise PipelineError(f"out ({out}) must be new, but holds a finished run; use another --out, or delete it")
    return out


def _clips(
    videos: VideoSet, base: Backbone, workers: int | None
) -> tuple[ClipSource, dict[int, int], list[str], list[dict[str, str]]]:
    """The train split's clips: source, label by usable row, class names, and failures."""
    class_names = videos.index.classes_of("train")
    if len(class_names) < 2:
        raise PipelineError(
            f"'{videos.name}' has {len(class_names)} train classes, and 2 or more are needed; put classes into "
            f"{videos.root}/train/CLASS, or use the weights as they are"
        )
    rows = [row for row, split in enumerate(videos.index.splits) if split == "train"]
    # The whole resized picture is kept, so that a random crop can be cut from it.
    rule = replace(base.pixels, size=base.pixels.resize_size)
    source = ClipSource(
        [videos.root / videos.index.paths[row] for row in rows],
        frames=base.frames,
        rule=rule,
        links=Links(videos.root, videos.follow_links),
        workers=workers,
    )
    failed = source.decode_all()
    failures = [{"key": videos.index.keys[rows[n]], "reason": reason} for n, reason in failed.items()]
    labels = {n: class_names.index(videos.index.classes[row]) for n, row in enumerate(rows) if n not in failed}
    empty = sorted(set(class_names) - {class_names[label] for label in labels.values()})
    if empty:
        source.close()
        raise PipelineError(
            f"no video of class '{empty[0]}' can be decoded ({failures[0]['reason']}); mend or remove it"
        )
    return source, labels, class_names, failures


def _provenance(
    base: Backbone,
    videos: VideoSet,
    class_names: list[str],
    n_clips: int,
    recipe: str,
    options: dict[str, Any],
    result: dict[str, float],
) -> dict[str, Any]:
    """What made the weights, as plain JSON values; `facts` is what a later load reports."""
    seen = {"dataset": videos.name, "split_scheme": videos.split_scheme, "classes": class_names}
    facts = {
        **base.facts,  # the licence among them: it is that of the weights it began with
        "pretraining": [*base.facts.get("pretraining", []), f"{videos.name}: its {len(class_names)} train classes"],
        "classes_seen": [*base.facts.get("classes_seen", []), seen],
    }
    return {
        "backbone": base.name,
        "recipe": recipe,
        "base_weights": base.weights_sha256,
        "base_source": base.weights_source,
        "dataset": videos.name,
        "clips": n_clips,
        "frames": base.frames,
        "size": base.size,
        "options": options,
        "result": result,
        "facts": facts,
    }
