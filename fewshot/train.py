"""Training a method on episodes of a store's train classes, in a folder that a killed run continues from."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

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
from .cubes.banks import Banks
from .environment import describe_device, resolve_device
from .errors import FewShotError, OtherRunError
from .methods.registry import naming_plugin
from .training.event_files import EventFiles, require_tensorboard
from .training.own_random import OwnRandom
from .training.plan import TrainPlan, TrainSettings, calibration_cubes, plan_training
from .training.run_config import CONFIG_FILE, RunConfig, read_config, run_name, write_config
from .training.run_state import METRICS_FILE, STATE_FILE, RunProgress, read_metrics
from .training.stream import TrainingStream, stream_key
from .training.trainer import Trainer
from .training.turns import train_all

_RUN_FILES = (CONFIG_FILE, STATE_FILE, METRICS_FILE, BEST_FILE, LAST_FILE, SUMMARY_FILE)


@dataclass(frozen=True, eq=False)
class Order:
    """A run that is wanted. out: its folder, None for `runs/NAME`."""

    settings: TrainSettings
    out: Path | None = None

    def folder_for(self, store: Store, config: RunConfig) -> Path:
        """The folder of the run."""
        return Path(self.out or _default_folder(store, self.settings, config))


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
    select_on="none", the last weights are kept. A method whose scores no parameter reaches is written untrained.
    On a CPU a killed run ends with the same weights, bit for bit, as one that was not (same torch, same number of
    threads). tensorboard: write the metrics as event files too. progress: say what happens. Raises FewShotError for
    settings that cannot be, and for a loss that is not finite; StoppedError when another process trains in `out`.
    """
    banks = open_banks(store, settings, device=device, say=progress)
    with naming_plugin(settings.get("method", "mastaf"), "training"):
        return train_together(banks, [Order(settings, out)], tensorboard=tensorboard, progress=progress)[0]


def open_banks(store: Store, settings: TrainSettings, *, device: str, say: bool) -> Banks:
    """The banks that a run's settings ask for."""
    partial, bank = settings.get("allow_partial", False), settings.get("bank")
    return Banks(store, device=resolve_device(device), allow_partial=partial, bank=bank, say=say)


def plan_run(banks: Banks, settings: TrainSettings) -> TrainPlan:
    """What a run of these settings would do, without writing anything. Raises FewShotError."""
    given: dict[str, Any] = {k: v for k, v in settings.items() if k not in ("allow_partial", "bank")}
    return plan_training(banks, **given)


def plan_order(banks: Banks, order: Order) -> TrainPlan:
    """What a run that is wanted would do; torch's random state stays as it was.

    Raises FewShotError, OtherRunError where its folder holds a run of other settings.
    """
    with torch.random.fork_rng(devices=[banks.device] if banks.device.type == "cuda" else []):
        plan = plan_run(banks, order.settings)
    folder = order.folder_for(banks.store, plan.config)
    if (folder / CONFIG_FILE).is_file():
        _require_same(folder, plan.config)
    return plan


def train_together(
    banks: Banks, orders: Sequence[Order], *, tensorboard: bool = False, progress: bool = True
) -> list[TrainSummary]:
    """Train several runs as `train` would each, to the same bits; runs that draw the same episodes share them."""
    if tensorboard:
        require_tensorboard()
    device = banks.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), ExitStack() as locks:
        runs = [_Run(banks, order, locks, say=progress) for order in orders]
        streams: dict[tuple[object, ...], TrainingStream] = {}
        for run in runs:
            run.fit()
        trainers = {id(run): run.trainer(streams, tensorboard) for run in runs if run.trains}
        train_all(list(trainers.values()), show_progress=progress)
        summaries = []
        for run in runs:
            if run.finished is not None and tensorboard:
                EventFiles(run.folder, read_metrics(run.folder)).close()
            trainer = trainers.get(id(run))
            reached = RunProgress() if trainer is None else trainer.progress
            summaries.append(run.finished or _finish(run.folder, run.plan, reached))
        return summaries


class _Run:
    """One run that was ordered: planned, its folder claimed and locked."""

    def __init__(self, banks: Banks, order: Order, locks: ExitStack, *, say: bool) -> None:
        self.banks, self.plan = banks, plan_run(banks, order.settings)
        self._random = OwnRandom(banks.device)
        self.folder = order.folder_for(banks.store, self.plan.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        locks.enter_context(writer_lock(self.folder / "run"))
        self.finished = _enter(self.folder, self.plan.config, say=say)
        if self.finished is None and say:
            console.say(f"training in {self.folder} on {describe_device(banks.device)}{_left_out(self.plan)}")
            for note in self.plan.notes:
                banks.note(note)

    @property
    def trains(self) -> bool:
        """Whether episodes are to be trained on."""
        return self.finished is None and self.plan.bank is not None and self.plan.method.episodic

    def fit(self) -> None:
        """Set what the method learns otherwise than by episodes; a run that continues has it in its state."""
        bank = self.plan.bank
        if self.finished is not None or bank is None or (self.folder / STATE_FILE).is_file():
            return
        with self._random.state():
            self.plan.method.to(self.banks.device).calibrate(calibration_cubes(bank))
            self.plan.method.fit(bank, np.random.Generator(np.random.Philox(key=self.plan.config.seed)))

    def trainer(self, streams: dict[tuple[object, ...], TrainingStream], tensorboard: bool) -> Trainer:
        """The trainer of this run, on a stream that it may share with others."""
        plan, bank, sampler = self.plan, self.plan.bank, self.plan.sampler
        if bank is None or sampler is None:
            raise RuntimeError("a run without train videos has no trainer")
        self.banks.announce(bank)
        stream = streams.setdefault(stream_key(plan.config), TrainingStream(bank, sampler, plan.config))
        with self._random.state():
            return Trainer(
                folder=self.folder,
                config=plan.config,
                method=plan.method,
                stream=stream,
                val=plan.val,
                device=self.banks.device,
                tensorboard=tensorboard,
            )


def _finish(folder: Path, plan: TrainPlan, progress: RunProgress) -> TrainSummary:
    """Write the last weights, then the summary that says that the run is finished."""
    selected = progress.best_accuracy >= 0
    write_weights(folder / LAST_FILE, plan.method, selected_on="none", episodes=progress.episodes)
    summary = TrainSummary(
        out=folder,
        trained=plan.bank is not None,
        episodes=progress.episodes,
        selected_on=plan.config.select_on if selected else "none",
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
    there = _require_same(folder, config)
    summary = read_train_summary(folder)
    if say and summary is not None:
        console.say(f"{folder} is already trained with these settings")
    elif say and there.provenance != config.provenance:
        changed = [k for k in config.provenance if config.provenance[k] != there.provenance.get(k)]
        console.say(f"continuing with another {' and '.join(changed)}: weights may differ in their last bits")
    return summary


def _require_same(folder: Path, config: RunConfig) -> RunConfig:
    """The settings of the run that the folder holds. Raises OtherRunError unless they are these."""
    there = read_config(folder)
    differing = config.differences(there)
    if differing:
        raise OtherRunError(
            f"{folder} holds a run of other settings ({'; '.join(differing)}); give another --out, or remove it"
        )
    return there


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
