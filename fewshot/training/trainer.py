"""One training run: its updates, validation, and state from which it continues."""

import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..checkpoint import BEST_FILE, write_weights
from ..cubes.bank import FeatureBank
from ..cubes.chunk import Chunk
from ..episodes.episode import EpisodeRows
from ..episodes.selection import Selection
from ..errors import FailedError
from ..methods.base import Method
from ..scoring import score_episodes
from ..statistics.metrics import episode_accuracy, mean_and_ci95
from .event_files import EventFiles
from .optimisation import learning_rate
from .optimiser import loss_precision, make_optimiser
from .own_random import OwnRandom
from .run_config import RunConfig
from .run_state import RunProgress, append_metrics, load_state, read_metrics, save_state, trim_metrics
from .stream import TrainingStream

_SAVE_EVERY_S = 60.0


class Trainer:
    """Trains `method` in place in the run's folder, continuing from the state that is there.

    stream: where training episodes come from; val: the fixed episodes that select, with their bank, None where
    nothing does; tensorboard: write event files too. Several trainers may take turns: see `training`.
    """

    def __init__(
        self,
        *,
        folder: Path,
        config: RunConfig,
        method: Method,
        stream: TrainingStream,
        val: Selection | None,
        device: torch.device,
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.config, self.method, self.device = folder, config, method.to(device), device
        self.stream, self.val = stream, val
        self._trained = [p for p in method.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(self._trained, config)
        self.progress = load_state(folder, method, self.optimiser)
        self._random = OwnRandom(device)  # after the state was loaded: it holds torch's
        trim_metrics(folder, self.progress.episodes)
        self._events = EventFiles(folder, read_metrics(folder)) if tensorboard else None
        self._saved = self._ticked = self._began = time.monotonic()
        self._window = (0, 0.0)  # episodes and seconds of updates since the last metrics line, in this session
        self._total = 0.0

    @property
    def done(self) -> bool:
        """At the end, or `patience` validations brought nothing better."""
        patience = self.config.patience
        stale = patience is not None and self.progress.stale >= patience
        return stale or self.progress.episodes >= self.config.train_episodes

    def begin(self) -> None:
        """Start an update."""
        self._began, self._total = time.monotonic(), 0.0
        self.method.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, self.progress.episodes)
        self.optimiser.zero_grad(set_to_none=True)

    def add(self, chunk: Chunk, count: int) -> None:
        """The gradient of a chunk of the `count` episodes of an update.

        Each chunk has equally many queries an episode, so weights by episodes give the mean.
        """
        with self._random.state():
            loss = self._loss(chunk) * (len(chunk) / count)
            value = float(loss.detach())
            if not np.isfinite(value):
                self._refuse(self.progress, count, value)
            loss.backward()
        self._total += value

    def finish(self, count: int) -> str:
        """Take the step of an update, validate and save on schedule; where the run stands, in words."""
        progress = self.progress
        with self._random.state():
            loss = self._update(progress, count)
            progress.episodes += count
            progress.loss_sum += loss
            progress.loss_count += 1
            self._after(progress)
        return f"loss {loss:.3f}" + _best(progress)

    def close(self) -> None:
        """Close what is open."""
        if self._events is not None:
            self._events.close()

    def _loss(self, chunk: Chunk) -> Tensor:
        """The method's loss, a scalar."""
        smoothing = self.config.label_smoothing
        if self.method.reads_maps:
            return self.method.loss_maps(chunk.related, smoothing=smoothing)
        with loss_precision(self.config, self.device):
            return self.method.loss(chunk.episode, smoothing=smoothing)

    def _update(self, progress: RunProgress, count: int) -> float:
        """The step of an update of `count` episodes; gives their mean loss."""
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trained, self.config.clip_norm)
        self.optimiser.step()
        self._window = (self._window[0] + count, self._window[1] + time.monotonic() - self._began)
        return self._total

    def _after(self, progress: RunProgress) -> None:
        """Validate and save on schedule."""
        at_end = progress.episodes == self.config.train_episodes
        if progress.episodes % self.config.val_every == 0 or at_end:
            line = self._validate(progress)
            progress.seconds += self._tick()
            append_metrics(self.folder, line)
            if self._events is not None:
                self._events.add(line)
            progress.loss_sum, progress.loss_count = 0.0, 0
            self._window = (0, 0.0)
            self._save(progress)
        elif time.monotonic() - self._saved > _SAVE_EVERY_S:
            progress.seconds += self._tick()
            self._save(progress)

    def _validate(self, progress: RunProgress) -> dict[str, float | int | None]:
        """Score train and val episodes, keep the weights if they are the best so far; the metrics line."""
        trained = self._accuracy(self.stream.bank, self.stream.scored)
        line: dict[str, float | int | None] = {
            "episodes": progress.episodes,
            "loss": progress.loss_sum / max(progress.loss_count, 1),
            "lr": self.optimiser.param_groups[0]["lr"],
            "train_accuracy": trained[0],
            "train_ci95": trained[1],
            "val_accuracy": None,
            "val_ci95": None,
            "episodes_per_s": round(self._window[0] / max(self._window[1], 1e-9), 1),
        }
        if self.val is not None:
            accuracy, half = self._accuracy(self.val.bank, self.val.rows)
            line |= {"val_accuracy": accuracy, "val_ci95": half}
            progress.stale += 1
            if accuracy > progress.best_accuracy:
                split = self.val.bank.split
                write_weights(self.folder / BEST_FILE, self.method, selected_on=split, episodes=progress.episodes)
                progress.best_accuracy, progress.best_ci95 = accuracy, half
                progress.best_episodes, progress.stale = progress.episodes, 0
        return line

    def _accuracy(self, bank: FeatureBank, rows: EpisodeRows) -> tuple[float, float]:
        logits = score_episodes(self.method, bank, rows, kept=self.stream.kept[bank.split])  # [e, q, way]
        return mean_and_ci95(episode_accuracy(logits.argmax(2) == rows.labels))

    def _save(self, progress: RunProgress) -> None:
        save_state(self.folder, self.method, self.optimiser, progress)
        self._saved = time.monotonic()

    def _tick(self) -> float:
        now = time.monotonic()
        passed, self._ticked = now - self._ticked, now
        return passed

    def _refuse(self, progress: RunProgress, count: int, value: float) -> None:
        step = progress.episodes // self.config.batch + 1
        best = self.folder / BEST_FILE
        good = f"the best weights so far are in {best}" if best.is_file() else "no weights were kept yet"
        raise FailedError(
            f"the loss is {value} at update {step} (episodes {progress.episodes + 1} to {progress.episodes + count}); "
            f"{good}; lower --lr ({self.config.lr}) and give another --out"
        )


def _best(progress: RunProgress) -> str:
    return f", best so far {100 * progress.best_accuracy:.1f} %" if progress.best_accuracy >= 0 else ""
