"""What fine-tuning leaves: weights with their provenance, and the head as a run that `mastaf-fewshot` evaluates."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...cache.atomic import write_bytes, write_json
from ...cache.versions import versions_of
from ...extract.backbones.base import Backbone
from ...extract.backbones.weights import write_weights
from ...fewshot.checkpoint import BEST_FILE, LAST_FILE, TrainSummary, write_train_summary
from ...fewshot.checkpoint import write_weights as write_head_weights
from ...fewshot.methods.base import Method
from ...fewshot.training.run_config import RunConfig, write_config
from .progress import LEFT_OVER, Progress
from .settings import RESULT_FILE, WEIGHTS_FILE

HEAD_FOLDER = "head"
WEIGHTS_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def provenance_of(
    base: Backbone,
    seen: Mapping[str, Any],
    *,
    recipe: str,
    clips: int,
    options: Mapping[str, Any],
    result: Mapping[str, Any],
) -> dict[str, Any]:
    """What made the weights, as plain JSON values; `facts` is what a later load reports. seen: {dataset, split_scheme,
    classes} of the training."""
    facts = {
        **base.facts,  # the licence among them: it is that of the weights it began with
        "pretraining": [
            *base.facts.get("pretraining", []),
            f"{seen['dataset']}: its {len(seen['classes'])} train classes",
        ],
        "classes_seen": [*base.facts.get("classes_seen", []), dict(seen)],
    }
    return {
        "backbone": base.name,
        "recipe": recipe,
        "base_weights": base.weights_sha256,
        "base_source": base.weights_source,
        "dataset": seen["dataset"],
        "clips": clips,
        "frames": base.frames,
        "size": base.size,
        "options": dict(options),
        "result": dict(result),
        "versions": versions_of("mastaf", "torch"),
        "commit": commit_of(Path(__file__)),
        "facts": facts,
    }


def write_backbone(folder: Path, base: Backbone, provenance: Mapping[str, Any], *, dtype: str) -> Path:
    """Write the weights, and the small files that must lie beside them. Returns the path."""
    for name, content in base.beside.items():
        write_bytes(folder / name, content)
    path = folder / WEIGHTS_FILE
    write_weights(path, base.module.state_dict(), provenance=provenance, dtype=WEIGHTS_DTYPES[dtype])
    return path


def finish(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Say that the run is finished, and drop what it would have continued from."""
    write_json(folder / RESULT_FILE, dict(provenance))
    for name in LEFT_OVER:
        (folder / name).unlink(missing_ok=True)


def write_head(folder: Path, method: Method, config: RunConfig, progress: Progress, episodes: int) -> None:
    """Write the head as a finished run of stage two. config: with the recipe of the cubes of the tuned weights;
    episodes: that were trained on."""
    folder.mkdir(exist_ok=True)
    write_config(folder, config)
    selected = progress.selected
    chosen = min(progress.best_updates * config.batch, episodes) if selected else episodes
    name, selected_on = (BEST_FILE, "val") if selected else (LAST_FILE, "none")
    write_head_weights(folder / name, method, selected_on=selected_on, episodes=chosen)
    write_train_summary(
        TrainSummary(
            out=folder,
            trained=True,
            episodes=episodes,
            selected_on=selected_on,
            weights=name,
            weights_episodes=chosen,
            val_accuracy=progress.best_accuracy if selected else None,
            val_ci95=progress.best_ci95 if selected else None,
            coverage={},
            seconds=round(progress.seconds, 3),
        )
    )


def commit_of(file: Path) -> str:
    """The commit of the git checkout that tracks this file, with `-dirty` where it has changes; '' elsewhere."""
    try:
        for arguments in (
            ("ls-files", "--error-unmatch", file.name),
            ("describe", "--always", "--dirty", "--abbrev=40"),
        ):
            command = ["git", "-C", str(file.parent), *arguments]
            found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
