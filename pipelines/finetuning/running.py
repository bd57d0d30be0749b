"""A run of any recipe, from its folder to its result."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...cache import console
from ...cache.store import writer_lock
from ...extract.backbones.base import Backbone
from ...extract.backbones.inference import resolve_precision
from ...extract.backbones.registry import load_backbone
from ...fewshot.environment import describe_device, resolve_device, versions
from ...fewshot.seeds import check_seeds
from ...fewshot.training.run_state import read_metrics
from ..errors import PipelineError
from .loop import Loop
from .progress import Progress
from .ranks import Ranks, code_digest, data_digest, join_ranks
from .results import HEAD_FOLDER, WEIGHTS_DTYPES, finish, provenance_of, write_backbone
from .settings import PLAN_FILE, PROVENANCE, RESULT_FILE, WEIGHTS_FILE, enter_run, read_object, settle
from .task import Task
from .tuning import Asked, Tuning, check_asked, check_freeze, require_parts

Load = Callable[[str | None], Backbone]


@dataclass(frozen=True, eq=False, kw_only=True)
class Start:
    """What a run starts from, before anything is written. load: weights (None: its own) -> the same network; asked:
    how parameters move; settings: what tells it from other runs; workers and such things do not; videos: options by
    which `mastaf-extract` finds them; ranks: the processes of the run."""

    recipe: str
    out: Path
    base: Backbone
    load: Load
    device: torch.device
    precision: str
    seed: int
    weights_dtype: str
    asked: Asked
    settings: dict[str, Any]
    videos: Mapping[str, Any]
    ranks: Ranks


@dataclass(frozen=True, eq=False, kw_only=True)
class Ready:
    """A run whose data is at hand. seen: {dataset, split_scheme, classes} of the training; clips: so many; options:
    for the provenance; write_head: where there is one, called with the tuned backbone; failures: {key, reason}."""

    task: Task
    tuning: Tuning
    seen: dict[str, Any]
    clips: int
    options: dict[str, Any]
    close: Callable[[], None]
    videos: dict[str, str]
    failures: Sequence[Mapping[str, str]] = ()
    patience: int | None = None
    write_head: Callable[[Backbone, Progress], None] | None = None
    notes: Sequence[str] = field(default=())


def start(
    *,
    recipe: str,
    out: Path,
    load: Load,
    weights: str | None,
    layers: Callable[[Backbone], Sequence[str]],
    asked: Asked,
    precision: str,
    device: str,
    seed: int,
    weights_dtype: str,
    videos: Mapping[str, Any],
) -> Start:
    """Check what can be checked without data, and load the network. layers: those that are trained; the rest as in
    `Start`."""
    check_seeds(seed)
    check_asked(asked)
    if weights_dtype not in WEIGHTS_DTYPES:
        raise PipelineError(f"weights_dtype ({weights_dtype}) must be one of {', '.join(WEIGHTS_DTYPES)}")
    ranks, device = join_ranks(device)
    chosen = resolve_device(device)
    base = load(weights)
    check_freeze(asked, layers(base))
    resolved = resolve_precision(precision, chosen, frames=base.frames)
    base.prepare_for_inference(resolved, chosen)  # refuses what the machine computes wrongly
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in asked.items() if v not in (None, False, ())}
    settings = {
        "recipe": recipe,
        "backbone": base.name,
        "base_weights": base.weights_sha256,
        "frames": base.frames,
        "pixels": {"resize": base.pixels.resize, "resize_size": base.pixels.resize_size, "size": base.size},
        "layer": base.layer,
        "time": base.time,
        "precision": resolved,
        "seed": seed,
        "weights_dtype": weights_dtype,
        "asked": given,
        PROVENANCE: {"versions": versions(), "device": describe_device(chosen)},
    }
    return Start(
        recipe=recipe,
        out=out,
        base=base,
        load=load,
        device=chosen,
        precision=resolved,
        seed=seed,
        weights_dtype=weights_dtype,
        asked=asked,
        settings=settings,
        videos=videos,
        ranks=ranks,
    )


def carry_out(began: Start, prepare: Callable[[], Ready], **settings: Any) -> dict[str, Any]:
    """Train in the run's folder, or continue there, and write what comes out; a summary of plain values. settings: more
    that tells runs apart; prepare: makes the data ready, which may take long."""
    out, ranks = began.out, began.ranks
    out.mkdir(parents=True, exist_ok=True)
    devices = [began.device] if began.device.type == "cuda" else []
    told = {**began.settings, **settings}
    if ranks.size > 1:
        ranks.require_alike({"code": code_digest(), "options": data_digest(_without_place(told))})
    with writer_lock(out / "run") if ranks.writes else nullcontext(), torch.random.fork_rng(devices=devices):
        if not ranks.of_first(enter_run(out, told) if ranks.writes else None):
            torch.manual_seed(began.seed)
            with ranks.first_alone():
                ready = prepare()
            try:
                _train(began, ready)
            finally:
                ready.close()
        with ranks.first_alone():  # which writes what the summary reads
            return _summary(began)


def _without_place(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they must be in every process: device and threads are its own."""
    return {name: value for name, value in settings.items() if name != PROVENANCE}


def _train(began: Start, ready: Ready) -> None:
    ranks, tuning = began.ranks, {k: list(v) if isinstance(v, tuple) else v for k, v in vars(ready.tuning).items()}
    ranks.require_alike({"videos": data_digest(ready.videos)})
    require_parts(ready.tuning, ranks.size)
    if ranks.writes:
        settle(began.out, {"videos": ready.videos, "failures": list(ready.failures), "tuning": tuning})
        console.say(f"training in {began.out} on {describe_device(began.device)}, {began.precision}")
        for note in ready.notes:
            console.say(note)
    how = {"folder": began.out, "device": began.device, "patience": ready.patience, "ranks": ranks}
    progress = Loop(ready.task, ready.tuning, **how).run()
    if ranks.writes:
        _write(began, ready, tuning, progress)


def _write(began: Start, ready: Ready, tuning: Mapping[str, Any], progress: Progress) -> None:
    """What comes out."""
    provenance = provenance_of(
        began.base,
        ready.seen,
        recipe=began.recipe,
        clips=ready.clips,
        options={**tuning, "device": str(began.device), **ready.options},
        result=_result(began.out, progress),
    )
    path = write_backbone(began.out, began.base, provenance, dtype=began.weights_dtype)
    if ready.write_head is not None:
        ready.write_head(began.load(str(path)), progress)
    finish(began.out, provenance)


def _result(folder: Path, progress: Progress) -> dict[str, float | int]:
    """Means over the last tenth of the steps, and what was selected."""
    lines = read_metrics(folder)
    last = lines[-max(1, len(lines) // 10) :]
    found: dict[str, float | int] = {"loss": float(np.mean([line["loss"] for line in last]))}
    if "accuracy" in last[-1]:
        found["accuracy"] = float(np.mean([line["accuracy"] for line in last]))
    if progress.selected:
        found |= {"val_accuracy": progress.best_accuracy, "val_ci95": progress.best_ci95}
        found |= {"chosen_step": progress.best_updates}
    return found | {"steps": progress.updates, "seconds": progress.seconds}


def _summary(began: Start) -> dict[str, Any]:
    path, head = began.out / WEIGHTS_FILE, began.out / HEAD_FOLDER
    loaded, plan = began.load(str(path)), read_object(began.out / PLAN_FILE)
    return {
        "out": str(began.out),
        "weights": str(path),
        "weights_sha256": loaded.weights_sha256,
        "head": str(head) if head.is_dir() else None,
        "next": _extract_command(began, path),
        "failures": plan["failures"],
        **read_object(began.out / RESULT_FILE),
    }


def _extract_command(began: Start, weights: Path) -> str:
    """The command that makes cubes of the tuned weights, as the head wants them."""
    base = began.base
    asked = {**began.videos, "frames": base.frames, "size": base.size, "resize": base.pixels.resize}
    asked |= {"time": base.time, "precision": began.precision, "seed": began.seed or None}
    words = ["mastaf-extract", "--backbone", base.name, "--weights", str(weights)]
    for name, value in asked.items():
        if value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return shlex.join(words)


def loader(name: str, **how: Any) -> Load:
    """Loads a backbone with `load_backbone`'s keyword arguments, from these or those weights."""
    first = how.pop("revision", None)

    def load(weights: str | None) -> Backbone:
        # A revision is of the hub, and tuned weights are a file.
        revision = first if weights is None or not Path(weights).is_file() else None
        return load_backbone(name, weights=weights, revision=revision, **how)

    return load
