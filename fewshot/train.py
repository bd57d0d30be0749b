"""Training a method on episodes of a store's train classes, in a folder that a killed run continues from."""

from pathlib import Path
from typing import Unpack

import numpy as np
import torch

from ..cache import console
from ..cache.atomic import remove_leftovers
from ..cache.store import Store, writer_lock
from .checkpoint import (
    BEST_FILE,
    LAST_FILE,
    SUMMARY_FILE,
    TrainSummary,
    read_train_summary,
    write_train_summary,
    write_weights,
)
from .environment import describe_device, resolve_device
from .errors import FewShotError
from .event_files import EventFiles, require_tensorboard
from .plan import TrainPlan, TrainSettings, calibration_cubes, plan_training
from .run_config import CONFIG_FILE, RunConfig, read_config, run_name, write_config
from .run_state import METRICS_FILE, STATE_FILE, RunProgress, read_metrics
from .trainer import Trainer

_RUN_FILES = (CONFIG_FILE, STATE_FILE, METRICS_FILE, BEST_FILE, LAST_FILE, SUMMARY_FILE)


def train(
    store: Store,
    *,
    out: Path | None = None,
    device: str = "cpu",
    tensorboard: bool = False,
    progress: bool = True,
    **settings: Unpack[TrainSettings],
) -> TrainSummary:
    """Train a method in the folder `out`, or continue the run of the same settings that is there.

    settings: see `TrainSettings` and, for the defaults, `plan_training`. Without enough val classes, or with
    select=False, the last weights are kept. A method whose scores no parameter reaches is written untrained.
    On a CPU a killed run ends with the same weights, bit for bit, as one that was not (same torch, same number of
    threads). tensorboard: write the metrics as event files too. progress: say what happens. Raises FewShotError for
    settings that cannot be, and for a loss that is not finite; StoppedError when another process trains in `out`.
    """
    chosen = resolve_device(device)
    if tensorboard:
        require_tensorboard()
    with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
        plan = plan_training(store, device=chosen, **settings)
        folder = Path(out or _default_folder(store, settings, plan.config))
        folder.mkdir(parents=True, exist_ok=True)
        with writer_lock(folder / "run"):
            finished = _enter(folder, plan.config, say=progress)
            if finished is not None:
                if tensorboard:
                    EventFiles(folder, read_metrics(folder)).close()
                return finished
            if progress:
                console.say(f"training in {folder} on {describe_device(chosen)}{_left_out(plan)}")
                for note in plan.notes:
                    console.say(note)
            return _finish(folder, plan, _train(folder, plan, chosen, progress, tensorboard))


def _train(folder: Path, plan: TrainPlan, device: torch.device, progress: bool, tensorboard: bool) -> RunProgress:
    if plan.bank is None or plan.sampler is None:
        return RunProgress()
    trainer = Trainer(
        folder=folder,
        config=plan.config,
        method=plan.method,
        bank=plan.bank,
        sampler=plan.sampler,
        val=plan.val,
        device=device,
        tensorboard=tensorboard,
    )
    if not (folder / STATE_FILE).is_file():
        plan.method.calibrate(calibration_cubes(plan.bank).to(device))
        plan.method.fit(plan.bank, np.random.Generator(np.random.Philox(key=plan.config.seed)))
    return trainer.run(show_progress=progress)


def _finish(folder: Path, plan: TrainPlan, progress: RunProgress) -> TrainSummary:
    """Write the last weights, then the summary that says that the run is finished."""
    selected = progress.best_accuracy >= 0
    write_weights(folder / LAST_FILE, plan.method, selected_on="none", episodes=progress.episodes)
    summary = TrainSummary(
        out=folder,
        trained=plan.bank is not None,
        episodes=progress.episodes,
        selected_on="val" if selected else "none",
        weights=BEST_FILE if selected else LAST_FILE,
        weights_episodes=progress.best_episodes if selected else progress.episodes,
        val_accuracy=progress.best_accuracy if selected else None,
        val_ci95=progress.best_ci95 if selected else None,
        coverage=plan.coverage,
        seconds=round(progress.seconds, 3),
    )
    write_train_summary(summary)
    return summary


def _enter(folder: Path, config: RunConfig, *, say: bool) -> TrainSummary | None:
    """Claim a new folder, or accept that of the same run: its summary when it is finished, else None."""
    for name in _RUN_FILES:
        remove_leftovers(folder / name)
    if not (folder / CONFIG_FILE).is_file():
        strangers = sorted(p.name for p in folder.iterdir() if p.name not in ("run.lock", "results"))
        if strangers:
            raise FewShotError(f"{folder} holds other files ({strangers[0]}) and no run; give another --out")
        write_config(folder, config)
        return None
    there = read_config(folder)
    differing = config.differences(there)
    if differing:
        raise FewShotError(
            f"{folder} holds a run of other settings ({'; '.join(differing)}); give another --out, or remove it"
        )
    summary = read_train_summary(folder)
    if say and summary is not None:
        console.say(f"{folder} is already trained with these settings")
    elif say and there.provenance != config.provenance:
        changed = [k for k in config.provenance if config.provenance[k] != there.provenance.get(k)]
        console.say(f"continuing with another {' and '.join(changed)}: weights may differ in their last bits")
    return summary


def _default_folder(store: Store, settings: TrainSettings, config: RunConfig) -> Path:
    keywords = dict(settings.get("method_keywords") or {})
    name = run_name(store.path.stem, config.method, keywords, way=config.way, shot=config.shot, seed=config.seed)
    return Path("runs") / name


def _left_out(plan: TrainPlan) -> str:
    """Words for the videos that could not be used, '' when there are none."""
    counts = [
        f"{found[state]} {state} {split} videos"
        for split, found in plan.coverage.items()
        for state in ("failed", "missing")
        if found[state]
    ]
    return f" (left out: {', '.join(counts)})" if counts else ""
