"""What a sweep shares among its trials, and what it says of them: the best settings, as a command line too."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.atomic import write_json
from ..cache.console import say, table
from ..fewshot.checkpoint import read_train_summary
from ..fewshot.cli_options import words_of
from .errors import PipelineError
from .search_space import SETTINGS, Dimension
from .sweep_study import Tried

BEST = "best.json"
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What all trials of a sweep share. folder: of the sweep; space: see `search_space`; fixed: keyword arguments of
    `train` that are not searched; device, jobs: where, and how many trials at once; seed: of the search."""

    folder: Path
    space: dict[str, Dimension]
    fixed: dict[str, Any]
    device: str
    jobs: int
    seed: int

    def settings(self, values: Mapping[str, Any], shot: int) -> dict[str, Any]:
        """Keyword arguments of `train` for a trial's values; those that are as the method has them are left out."""
        own = {k: v for k, v in values.items() if k not in ("features", "lr") and v is not False}
        keywords = {**self.fixed["method_keywords"], **own}
        return {**self.fixed, "shot": shot, "lr": values["lr"], "method_keywords": keywords}

    def run(self, number: int, shot: int) -> Path:
        """The folder of a trial's training run."""
        return self.folder / f"{shot}shot" / f"trial_{number:04d}"


def write_best(search: Sweep, trials: Sequence[Tried], shot: int) -> None:
    """Put the best trial of a shot so far into `best.json`, beside those of other shots."""
    ranked = _ranked(trials)
    if not ranked:
        return
    best, run = ranked[0], search.run(ranked[0].number, shot)
    settings, summary = search.settings(best.values, shot), read_train_summary(run)
    command = ["mastaf-fewshot", "train", "--features", best.values["features"], *words_of(settings)]
    command += [] if search.device == "cpu" else ["--device", search.device]
    value = read_best(search.folder)
    value["shots"][str(shot)] = {
        "val_accuracy": best.accuracy,
        "val_ci95": None if summary is None else summary.val_ci95,
        "trials": len(ranked),
        "failed": sum(trial.failed for trial in trials),
        "features": best.values["features"],
        "settings": settings,
        "run": str(run),
        "command": shlex.join([*command, "--out", str(search.folder / f"best_{shot}shot")]),
    }
    write_json(search.folder / BEST, value)


def read_best(folder: Path) -> dict[str, Any]:
    """What `best.json` holds, or will."""
    path = folder / BEST
    if not path.is_file():
        return {"selected_on": "val", "shots": {}}
    return json.loads(path.read_text(encoding="utf-8"))


def report(search: Sweep, trials: Sequence[Tried], shot: int) -> None:
    """Print the best trials of a shot, and the command that trains the best. Raises PipelineError without any."""
    ranked = _ranked(trials)[:_SHOWN]
    if not ranked:
        raise PipelineError(f"all {len(trials)} trials of {search.folder} ({shot}-shot) failed; see the reasons above")
    swept = [name for name, dimension in search.space.items() if len(dimension.choices) != 1]
    rows = [
        [str(trial.number), _percent(trial, search.run(trial.number, shot)), *(_short(trial.values[n]) for n in swept)]
        for trial in ranked
    ]
    say("\n" + table(rows, ["trial", "val %", *map(_name, swept)]))
    say("\nthe best was chosen on val, so its accuracy there is too high; train it, then test it once:")
    say(f"{read_best(search.folder)['shots'][str(shot)]['command']}\n")


def values_in_words(values: Mapping[str, Any]) -> str:
    """`tau 0.025, lr 0.01, ...`."""
    return ", ".join(f"{_name(name)} {_short(value)}" for name, value in values.items())


def _ranked(trials: Sequence[Tried]) -> list[Tried]:
    """Those with an accuracy, best first; of equals the one that was tried first."""
    answered = [trial for trial in trials if trial.accuracy is not None]
    return sorted(answered, key=lambda trial: (-(trial.accuracy or 0), trial.number))


def _percent(trial: Tried, run: Path) -> str:
    """Accuracy with its interval, which tells a better setting from luck."""
    summary = read_train_summary(run)
    half = 0.0 if summary is None or summary.val_ci95 is None else summary.val_ci95
    return f"{100 * (trial.accuracy or 0):.1f} ± {100 * half:.1f}"


def _name(setting: str) -> str:
    """As its option is called."""
    return SETTINGS[setting].flag.removeprefix("--") if setting in SETTINGS else setting


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
