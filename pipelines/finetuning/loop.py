"""The loop of fine-tuning, one for all recipes: updates from a stream of batches and a loss, validation, and a state
from which a killed run continues to the same weights."""

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...cache import console
from ...extract.backbones.inference import channels_last
from ...fewshot.training.optimisation import schedule_factor
from ...fewshot.training.run_state import append_metrics, trim_metrics
from ..errors import PipelineError
from . import progress as states
from .memory import memory_advice
from .parts import freeze, make_optimiser, training_mode
from .progress import Progress
from .ranks import Ranks, gone_is_stopped, share_gradients
from .task import Part, Task
from .tuning import Tuning

_SAVE_EVERY_S = 60.0


class Loop:
    """Trains a task in place, in the run's folder, continuing from the state that is there.

    patience: end after so many validations without a better one; ranks: the processes that share the parts of each
    update: gradients are those of all of them, and the first one writes.
    """

    def __init__(
        self,
        task: Task,
        tuning: Tuning,
        *,
        folder: Path,
        device: torch.device,
        patience: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.task, self.tuning, self.folder, self.device, self._patience = task, tuning, folder, device, patience
        self._ranks = ranks or Ranks()
        task.base.module.checkpointing = tuning.checkpointing
        channels_last(task.base.module.to(device))
        task.head.to(device)
        freeze(task.base, tuning.freeze, front=task.front)
        self.optimiser = make_optimiser(task.base, task.head, tuning)
        self.progress = states.load(folder, self.modules, self.optimiser)
        if self._ranks.writes:
            trim_metrics(folder, self.progress.updates, "step")
        self._trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        self._objective = share_gradients(self.modules, task.loss, self._ranks)
        self._saved, self._saved_at, self._ticked = self.progress.updates, time.monotonic(), time.monotonic()

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What is trained, by name."""
        return {"backbone": self.task.base.module, "head": self.task.head}

    def run(self) -> Progress:
        """Train to the end, and leave the chosen weights in the modules, in evaluation mode."""
        done, updates = self.progress.updates, self.tuning.updates
        shown = console.Progress(updates, "training", "steps", done=done) if self._ranks.writes else nullcontext()
        with ThreadPoolExecutor(max_workers=1) as ahead, shown as bar:
            batches = self._batches(ahead)
            while not self._ended():
                with memory_advice(self.task.base, self.tuning, self.task.unit):
                    line = self._update(batches)
                self.progress.updates += 1
                self._after(line)
                if bar is not None:
                    bar.advance(note=_words(line, self.progress))
        if self.progress.selected and self._ranks.writes:
            states.load_best(self.folder, self.modules)
        for module in self.modules.values():
            module.eval()
        return self.progress

    def _ended(self) -> bool:
        stale = self._patience is not None and self.progress.stale >= self._patience
        return stale or self.progress.updates >= self.tuning.updates

    def _batches(self, ahead: Executor) -> Iterator[tuple[Any, float]]:
        """The batches of all updates to come, each with its share, the next being loaded while one is used."""
        coming = None
        for part, share in self._parts():
            following = ahead.submit(self.task.load, part), share
            if coming is not None:
                yield coming[0].result(), coming[1]
            coming = following
        if coming is not None:
            yield coming[0].result(), coming[1]

    def _parts(self) -> Iterator[Part]:
        for update in range(self.progress.updates, self.tuning.updates):
            yield from self._own(update)

    def _own(self, update: int) -> Sequence[Part]:
        """The parts of an update that this process does."""
        return self.task.parts(update)[self._ranks.rank :: self._ranks.size]

    def _update(self, batches: Iterator[tuple[Any, float]]) -> dict[str, float | int]:
        """One update; its metrics line."""
        task, tuning, number = self.task, self.tuning, self.progress.updates
        training_mode(task.base, task.head, tuning, front=task.front)
        factor = self._factor(number)
        for group in self.optimiser.param_groups:
            group["lr"] = group["full_lr"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        if self._ranks.size > 1:  # what a head or a network draws differs between processes
            torch.manual_seed((tuning.seed + 1 + number * self._ranks.size + self._ranks.rank) % 2**63)
        line: dict[str, float] = {"loss": 0.0}
        left = len(self._own(number))
        while left:
            left -= 1
            batch, share = next(batches)
            with self._objective.alone(left > 0):
                loss, numbers = self._objective(batch)
                with gone_is_stopped():
                    (loss * (share * self._ranks.size)).backward()  # the mean over processes is taken of gradients
            for name, found in {"loss": float(loss.detach()), **numbers}.items():
                line[name] = line.get(name, 0.0) + share * found
        line = self._ranks.sum(line, self.device)
        if not math.isfinite(line["loss"]):
            self._refuse(f"the loss is {line['loss']}")
        norm = float(nn.utils.clip_grad_norm_(self._trained, tuning.clip_norm or math.inf))
        if not math.isfinite(norm):
            self._refuse(f"the gradient's norm is {norm}")
        self.optimiser.step()
        self._ranks.mean_statistics(self.modules.values())
        return {"step": number + 1, **line, "lr": tuning.lr * factor, "grad_norm": norm}

    def _factor(self, update: int) -> float:
        """What learning rates are multiplied by."""
        tuning = self.tuning
        steps = {"step_every": tuning.step_every, "step_factor": tuning.step_factor}
        factor = schedule_factor(tuning.schedule, update * tuning.batch, tuning.updates * tuning.batch, **steps)
        return min((update + 1) / max(1.0, tuning.warm_up * tuning.updates), factor)

    def _after(self, line: dict[str, float | int]) -> None:
        """Validate, write the metrics line, and save on schedule."""
        progress, task = self.progress, self.task
        at_end = progress.updates == self.tuning.updates
        validates = task.validate is not None and (
            at_end or progress.updates * self.tuning.batch % max(1, task.val_every) == 0
        )
        if task.validate is not None and validates:
            accuracy, half = self._ranks.of_first(task.validate() if self._ranks.writes else None)
            line |= {"val_accuracy": accuracy, "val_ci95": half}
            progress.stale += 1
            if accuracy > progress.best_accuracy:
                if self._ranks.writes:
                    states.write_best(self.folder, self.modules, progress.updates)
                progress.best_accuracy, progress.best_ci95 = accuracy, half
                progress.best_updates, progress.stale = progress.updates, 0
        if not self._ranks.writes:
            return
        append_metrics(self.folder, line)
        if validates or at_end or time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self._save()

    def _save(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self._ticked
        self._ticked = now
        if not all(torch.isfinite(p).all() for p in self._trained):
            self._refuse("a weight is not finite after the update")
        states.save(self.folder, self.modules, self.optimiser, self.progress)
        self._saved, self._saved_at = self.progress.updates, time.monotonic()

    def _refuse(self, what: str) -> None:
        good = states.last_good(self.folder, self.progress, self._saved)
        precise = "" if self.tuning.precision == "fp32" else " or --precision fp32"
        remedy = f"use a smaller --lr ({self.tuning.lr:g}){precise}, and another --out"
        raise PipelineError(f"{what} at step {self.progress.updates + 1}; {good}; {remedy}")


def _words(line: dict[str, float | int], progress: Progress) -> str:
    accuracy = f", accuracy {line['accuracy']:.3f}" if "accuracy" in line else ""
    best = f", best on val {100 * progress.best_accuracy:.1f} %" if progress.selected else ""
    return f"loss {line['loss']:.3f}{accuracy}{best}"
