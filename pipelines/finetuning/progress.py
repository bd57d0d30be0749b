"""Where a fine-tuning run stands, on disk: what a killed run continues from, and the best weights so far."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import nn

from ...fewshot.training.run_state import STATE_FILE, read_state, write_state
from ...fewshot.weights import load_exactly, read_tensors, write_tensors

BEST_FILE = "best.safetensors"
LEFT_OVER = (STATE_FILE, BEST_FILE)  # of no use once the run is finished


@dataclass(kw_only=True)
class Progress:
    """Counters of a run. updates: done; best_accuracy, best_ci95, best_updates: of the best validation (-1 before the
    first); stale: validations since; seconds: spent training."""

    updates: int = 0
    best_accuracy: float = -1.0
    best_ci95: float = 0.0
    best_updates: int = 0
    stale: int = 0
    seconds: float = 0.0

    @property
    def selected(self) -> bool:
        """Whether val chose weights."""
        return self.best_accuracy >= 0


def save(folder: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    """Write what the run continues from."""
    write_state(folder, modules, optimiser, asdict(progress))


def load(folder: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer) -> Progress:
    """Continue from the folder's state if there is one."""
    found = read_state(folder, modules, optimiser, [field.name for field in fields(Progress)])
    return Progress() if found is None else Progress(**found)


def write_best(folder: Path, modules: dict[str, nn.Module], updates: int) -> None:
    """Keep the weights as they are now."""
    states = {name: module.state_dict() for name, module in modules.items()}
    tensors = {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}
    write_tensors(folder / BEST_FILE, tensors, {"updates": updates})


def load_best(folder: Path, modules: dict[str, nn.Module]) -> None:
    """Give the modules the weights that `write_best` kept."""
    tensors, _ = read_tensors(folder / BEST_FILE)
    for name, module in modules.items():
        own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        load_exactly(module, own, folder / BEST_FILE)


def last_good(folder: Path, progress: Progress, saved: int) -> str:
    """The checkpoints that a broken run leaves, in words; saved: updates of its state."""
    found = []
    if (folder / STATE_FILE).is_file():
        found.append(f"the last good state, of step {saved}, is {folder / STATE_FILE}")
    if (folder / BEST_FILE).is_file():
        found.append(f"the best weights so far, of step {progress.best_updates}, are {folder / BEST_FILE}")
    return " and ".join(found) or "no checkpoint was written yet"
