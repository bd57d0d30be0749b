"""Where a training run stands, in one file, so that a killed run continues to the same weights."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...cache.atomic import disk_full, write_bytes
from ..errors import FewShotError
from ..methods.base import Method
from ..weights import load_exactly, read_tensors, write_tensors

STATE_FILE = "state.safetensors"
METRICS_FILE = "metrics.jsonl"


@dataclass(kw_only=True)
class RunProgress:
    """Counters of a run.

    episodes: trained so far; loss_sum, loss_count: updates since the last metrics line; best_accuracy, best_ci95,
    best_episodes: of the best validation (-1 before the first); stale: validations since; seconds: spent training.
    """

    episodes: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best_accuracy: float = -1.0
    best_ci95: float = 0.0
    best_episodes: int = 0
    stale: int = 0
    seconds: float = 0.0


def save_state(folder: Path, method: Method, optimiser: torch.optim.Optimizer, progress: RunProgress) -> None:
    """Write method, optimiser, torch's random state and counters as one file, whole or not at all."""
    tensors: dict[str, Tensor] = {f"method.{k}": v for k, v in method.state_dict().items()}
    plain: dict[str, Any] = {}
    for number, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{number}.{name}"] = value
            else:
                plain[f"{number}.{name}"] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    write_tensors(folder / STATE_FILE, tensors, {"progress": asdict(progress), "optimiser": plain})


def load_state(folder: Path, method: Method, optimiser: torch.optim.Optimizer) -> RunProgress:
    """Continue from the folder's state, if there is one: fill method, optimiser and torch's random state."""
    path = folder / STATE_FILE
    if not path.is_file():
        return RunProgress()
    try:
        tensors, note = read_tensors(path)
    except FewShotError as error:
        raise FewShotError(f"{error}; remove it to train from the start") from None
    try:
        progress = RunProgress(**{f.name: note["progress"][f.name] for f in fields(RunProgress)})
        states: dict[int, dict[str, Any]] = {}
        for key, value in note["optimiser"].items():
            number, name = key.split(".", 1)
            states.setdefault(int(number), {})[name] = value
        for key in [key for key in tensors if key.startswith("optimiser.")]:
            _, number, name = key.split(".", 2)
            states.setdefault(int(number), {})[name] = tensors.pop(key)
        random = {k: tensors.pop(k) for k in [k for k in tensors if k.startswith("random.")]}
        torch.set_rng_state(random["random.cpu"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FewShotError(f"{path} holds no state of a run ({error}); remove it to train from the start") from None
    if torch.cuda.is_available() and "random.cuda" in random:
        torch.cuda.set_rng_state(random["random.cuda"])
    load_exactly(method, {k.removeprefix("method."): v for k, v in tensors.items()}, path)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    return progress


def append_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Add one line to the run's metrics."""
    path = folder / METRICS_FILE
    with disk_full(path), path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, allow_nan=False) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the run's metrics; a last line cut short by a kill is left out."""
    path = folder / METRICS_FILE
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def trim_metrics(folder: Path, episodes: int) -> None:
    """Drop lines beyond `episodes`: they were written after the state that the run continues from."""
    kept = [line for line in read_metrics(folder) if line["episodes"] <= episodes]
    write_bytes(folder / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())
