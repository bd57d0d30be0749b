"""Training runs below a folder, of heads and of backbones, and what their metrics say; they may be a stranger's."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.checks import brief, parse_json
from ...cache.errors import CacheError
from ...fewshot.errors import FewShotError
from ...fewshot.statistics.found_records import Refused, plain_bytes
from ...fewshot.training.run_config import CONFIG_FILE, RunConfig
from ...fewshot.training.run_state import METRICS_FILE
from ..finetuning.results import HEAD_FOLDER
from ..finetuning.settings import SETTINGS_FILE

MOST_RUNS = 1000
_MOST_BYTES = 8 << 20
_DEEPEST = 12
_SHARES = ("val_accuracy", "val_ci95", "train_accuracy", "train_ci95")


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """One run. name: its folder, below the root; kind: `head` or `backbone`; config: of a head, None for a backbone;
    settings: what is known of a backbone's; unit: what `at` counts; lines: of its metrics, only finite numbers; val_n:
    val episodes that an accuracy is of, None where it is not known."""

    name: str
    folder: Path
    kind: str
    config: RunConfig | None
    settings: dict[str, Any]
    unit: str
    lines: list[dict[str, float]]
    val_n: int | None

    @property
    def best(self) -> dict[str, float] | None:
        """The line that was best on what selects, the first of equals; None where nothing selected."""
        scored = [line for line in self.lines if "val_accuracy" in line and "val_ci95" in line]
        return max(scored, key=lambda line: line["val_accuracy"], default=None)


def find_runs(root: Path) -> tuple[list[TrainedRun], list[Refused]]:
    """The runs below a folder that have metrics, by name; links are not followed."""
    found, refused = [], []
    for folder in sorted(_folders(root)):
        try:
            run = _read(folder, root)
        except (FewShotError, CacheError) as error:
            refused.append(Refused(folder / METRICS_FILE, brief(error, 300)))
        except OSError as error:
            refused.append(Refused(folder / METRICS_FILE, f"{folder}: {error.strerror}"))
        else:
            found.append(run)
    return found, refused


def _folders(root: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(root):
        place = Path(here)
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
        if len(place.relative_to(root).parts) >= _DEEPEST:
            folders.clear()
        if METRICS_FILE in names and (CONFIG_FILE in names or SETTINGS_FILE in names):
            yield place


def _read(folder: Path, root: Path) -> TrainedRun:
    name = str(folder.relative_to(root)) if folder != root else folder.resolve().name
    lines = _lines(folder / METRICS_FILE)
    if (folder / CONFIG_FILE).is_file():
        value = parse_json(plain_bytes(folder / CONFIG_FILE, _MOST_BYTES), str(folder / CONFIG_FILE))
        config = RunConfig.from_json(value, folder / CONFIG_FILE)
        points = [{"at": line["episodes"], **line} for line in lines if "episodes" in line]
        return TrainedRun(name, folder, "head", config, {}, "episodes", points, config.val_episodes)
    settings = parse_json(plain_bytes(folder / SETTINGS_FILE, _MOST_BYTES), str(folder / SETTINGS_FILE))
    if not isinstance(settings, dict):
        raise FewShotError(f"{folder / SETTINGS_FILE} must be a JSON object")
    points = [{"at": line["step"], **line} for line in lines if "step" in line]
    return TrainedRun(name, folder, "backbone", None, settings, "steps", points, _val_episodes(folder, settings))


def _val_episodes(folder: Path, settings: dict[str, Any]) -> int | None:
    """Val episodes of a backbone's run: as asked for, else as the head beside it was selected by."""
    count = settings.get("val_episodes")
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    head = folder / HEAD_FOLDER / CONFIG_FILE
    if not head.is_file():
        return None
    return RunConfig.from_json(parse_json(plain_bytes(head, _MOST_BYTES), str(head)), head).val_episodes


def _lines(path: Path) -> list[dict[str, float]]:
    """The numbers of each line; a last line cut short by a kill is left out."""
    found: list[dict[str, float]] = []
    raw = plain_bytes(path, _MOST_BYTES).split(b"\n")
    for number, line in enumerate(raw):
        if not line.strip():
            continue
        try:
            value = parse_json(line, f"line {number + 1} of {path}")
        except CacheError:
            if number == len(raw) - 1:
                break
            raise
        if not isinstance(value, dict):
            raise FewShotError(f"line {number + 1} of {path} must be a JSON object")
        found.append({str(name): float(n) for name, n in value.items() if _is_number(n)})
        if any(not 0 <= found[-1].get(name, 0) <= 1 for name in _SHARES):
            raise FewShotError(f"line {number + 1} of {path}: accuracies must be shares from 0 to 1")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
