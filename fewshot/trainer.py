"""The training loop of one run: updates, validation, and state from which it continues."""

import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from ..cache.console import Progress
from .bank import Buffers, FeatureBank, draw_views
from .checkpoint import BEST_FILE, write_weights
from .episode import EpisodeRows
from .errors import FewShotError
from .event_files import EventFiles
from .methods.base import Method
from .metrics import episode_accuracy, mean_and_ci95
from .optimisation import learning_rate
from .optimiser import loss_precision, make_optimiser
from .run_config import RunConfig
from .run_state import RunProgress, append_metrics, load_state, read_metrics, save_state, trim_metrics
from .sampler import EpisodeSampler
from .scoring import chunks, score_episodes

_SAVE_EVERY_S = 60.0
_TRAIN_SCORED = 200  # episodes of the train classes scored at each validation
_DRAWN_UPDATES = 32  # updates whose episodes are drawn at once


class Trainer:
    """Trains `method` in place in the run's folder, continuing from the state that is there.

    val: the fixed val episodes with their bank, None where nothing is selected; tensorboard: write event files too.
    """

    def __init__(
        self,
        *,
        folder: Path,
        config: RunConfig,
        method: Method,
        bank: FeatureBank,
        sampler: EpisodeSampler,
        val: tuple[FeatureBank, EpisodeRows] | None,
        device: torch.device,
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.config, self.method, self.device = folder, config, method.to(device), device
        self.bank, self.sampler, self.val = bank, sampler, val
        self._events: EventFiles | None = None
        self._tensorboard = tensorboard
        self._trained = [p for p in method.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(self._trained, config)
        self.class_ids = config.train_class_ids
        self._buffers = Buffers()
        self._drawn: tuple[int, EpisodeRows] = (0, sampler.rows(0, 0))
        # The same stream, beyond the last episode that is trained on.
        self._scored = sampler.rows(config.train_episodes, _TRAIN_SCORED)

    def run(self, *, show_progress: bool = True) -> RunProgress:
        """Train to the end, or until `patience` validations brought nothing better."""
        config = self.config
        progress = load_state(self.folder, self.method, self.optimiser)
        trim_metrics(self.folder, progress.episodes)
        self._saved = self._ticked = time.monotonic()
        self._window = (0, 0.0)  # episodes and seconds of updates since the last metrics line, in this session
        what = f"train {self.folder.name}"
        shown = Progress(config.train_episodes, what, "episodes", done=progress.episodes) if show_progress else None
        self._events = EventFiles(self.folder, read_metrics(self.folder)) if self._tensorboard else None
        with self._events or nullcontext(), shown or nullcontext() as bar:
            while progress.episodes < config.train_episodes and not self._stale(progress):
                count = min(config.batch, config.train_episodes - progress.episodes)
                loss = self._update(progress, count)
                progress.episodes += count
                progress.loss_sum += loss
                progress.loss_count += 1
                self._after(progress)
                if bar is not None:
                    bar.advance(count, f"loss {loss:.3f}" + _best(progress))
        return progress

    def _stale(self, progress: RunProgress) -> bool:
        return self.config.patience is not None and progress.stale >= self.config.patience

    def _update(self, progress: RunProgress, count: int) -> float:
        """One step on the next `count` episodes; gives their mean loss."""
        start = time.monotonic()
        rows = self._rows(progress.episodes, count)
        videos = self.config.way * self.config.shot + self.sampler.queries_per_episode
        views = draw_views(self.config.seed, progress.episodes, count, videos, self.config.views)
        self.method.train()
        self._set_learning_rate(progress.episodes)
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        # Chunks bound the memory; each has equally many queries an episode, so weights by episodes give the mean.
        for first, part in chunks(rows, self.bank.store.spec.cube_shape):
            episode = self.bank.episode(
                part,
                device=self.device,
                train_class_ids=self.class_ids,
                views=views[first : first + len(part)],
                buffers=self._buffers,
            )
            with loss_precision(self.config, self.device):
                loss = self.method.loss(episode, smoothing=self.config.label_smoothing) * (len(part) / count)
            value = float(loss.detach())
            if not np.isfinite(value):
                self._refuse(progress, count, value)
            loss.backward()
            total += value
        if self.config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trained, self.config.clip_norm)
        self.optimiser.step()
        self._window = (self._window[0] + count, self._window[1] + time.monotonic() - start)
        return total

    def _set_learning_rate(self, episodes: int) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, episodes)

    def _rows(self, start: int, count: int) -> EpisodeRows:
        first, drawn = self._drawn
        if not first <= start <= start + count <= first + len(drawn):
            # Drawing many at once is cheaper, and changes nothing: episode i is a function of i.
            first, drawn = self._drawn = start, self.sampler.rows(start, self.config.batch * _DRAWN_UPDATES)
        return drawn[start - first : start - first + count]

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
        line: dict[str, float | int | None] = {
            "episodes": progress.episodes,
            "loss": progress.loss_sum / max(progress.loss_count, 1),
            "lr": self.optimiser.param_groups[0]["lr"],
            "train_accuracy": self._accuracy(self.bank, self._scored)[0],
            "val_accuracy": None,
            "val_ci95": None,
            "episodes_per_s": round(self._window[0] / max(self._window[1], 1e-9), 1),
        }
        if self.val is not None:
            accuracy, half = self._accuracy(*self.val)
            line |= {"val_accuracy": accuracy, "val_ci95": half}
            progress.stale += 1
            if accuracy > progress.best_accuracy:
                write_weights(self.folder / BEST_FILE, self.method, selected_on="val", episodes=progress.episodes)
                progress.best_accuracy, progress.best_ci95 = accuracy, half
                progress.best_episodes, progress.stale = progress.episodes, 0
        return line

    def _accuracy(self, bank: FeatureBank, rows: EpisodeRows) -> tuple[float, float]:
        logits = score_episodes(self.method, bank, rows, device=self.device)  # [e, q, way]
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
        raise FewShotError(
            f"the loss is {value} at update {step} (episodes {progress.episodes + 1} to {progress.episodes + count}); "
            f"{good}; lower --lr ({self.config.lr}) and give another --out"
        )


def _best(progress: RunProgress) -> str:
    return f", best val {100 * progress.best_accuracy:.1f} %" if progress.best_accuracy >= 0 else ""
