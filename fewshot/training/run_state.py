"""Where a training run stands, in one file, so that a killed run continues to the same weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

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
    write_state(folder, {"method": method}, optimiser, asdict(progress))


def load_state(folder: Path, method: Method, optimiser: torch.optim.Optimizer) -> RunProgress:
    """Continue from the folder's state, if there is one: fill method, optimiser and torch's random state."""
    counters = read_state(folder, {"method": method}, optimiser, [f.name for f in fields(RunProgress)])
    return RunProgress() if counters is None else RunProgress(**counters)


def write_state(
    folder: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, counters: Mapping[str, Any]
) -> None:
    """Write modules by name, their optimiser, torch's random state and counters (plain values) as one file."""
    states = {name: module.state_dict() for name, module in modules.items()}
    tensors: dict[str, Tensor] = {f"{m}.{k}": v for m, state in states.items() for k, v in state.items()}
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
    write_tensors(folder / STATE_FILE, tensors, {"progress": dict(counters), "optimiser": plain})


def read_state(
    folder: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, counters: Sequence[str]
) -> dict[str, Any] | None:
    """Fill modules, optimiser and torch's random state from the folder's state; its counters of these names, or None
    where there is no state. Raises FewShotError for a file that is no state of these modules."""
    path = folder / STATE_FILE
    if not path.is_file():
        return None
    try:
        tensors, note = read_tensors(path)
    except FewShotError as error:
        raise FewShotError(f"{error}; remove it to train from the start") from None
    try:
        found = {name: note["progress"][name] for name in counters}
        states = _optimiser_state(tensors, note["optimiser"])
        random = {k: tensors.pop(k) for k in [k for k in tensors if k.startswith("random.")]}
        torch.set_rng_state(random["random.cpu"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FewShotError(f"{path} holds no state of a run ({error}); remove it to train from the start") from None
    if torch.cuda.is_available() and "random.cuda" in random:
        torch.cuda.set_rng_state(random["random.cuda"])
    for name, module in modules.items():
        own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        load_exactly(module, own, path)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    return found


def _optimiser_state(tensors: dict[str, Tensor], plain: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The optimiser's state by number of parameter; its tensors are taken out of `tensors`."""
    states: dict[int, dict[str, Any]] = {}
    for key, value in plain.items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = value
    for key in [key for key in tensors if key.startswith("optimiser.")]:
        _, number, name = key.split(".", 2)
        states.setdefault(int(number), {})[name] = tensors.pop(key)
    return states


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


def trim_metrics(folder: Path, done: int, counter: str = "episodes") -> None:
    """Drop lines whose counter is beyond `done`: they were written after the state that the run continues from."""
    kept = [line for line in read_metrics(folder) if line[counter] <= done]
    write_bytes(folder / METRICS_FILE, "".join(json.dumps(line) + "\n" for line in kept).encode())
