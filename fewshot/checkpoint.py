"""Finished runs: the summary that ends one, and loading its method back for a store."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..cache.atomic import write_json
from ..cache.plugins import reason_of
from ..cache.spec import FeatureSpec
from ..cache.store import Store
from .errors import FailedError, FewShotError
from .methods.base import Method
from .methods.registry import find_method, load_method
from .records import SELECTED_ON
from .training.run_config import RunConfig, read_config
from .weights import PICKLES, load_exactly, read_tensors, write_tensors

BEST_FILE, LAST_FILE = "best.safetensors", "last.safetensors"
SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """How a run ended. out: its folder; trained: False where nothing that the scores depend on can be trained;
    episodes: trained; selected_on: `val`, `none` or `test`; weights: file name; weights_episodes: episodes that these
    weights have seen; val_accuracy, val_ci95: of the selected weights on the episodes that selected them, None where
    nothing did; coverage: of the splits that were used; seconds: of training, over all its sessions."""

    out: Path
    trained: bool
    episodes: int
    selected_on: str
    weights: str
    weights_episodes: int
    val_accuracy: float | None
    val_ci95: float | None
    coverage: dict[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"out": str(self.out)}


@dataclass(frozen=True, eq=False)
class Run:
    """A method ready to score, and where it is from. folder: of the run; weights: the file that was loaded;
    selected_on: `val`, `none` or `test`."""

    method: Method
    config: RunConfig
    folder: Path
    weights: Path
    selected_on: str


def write_weights(path: Path, method: Method, *, selected_on: str, episodes: int) -> None:
    """Write a method's weights, with what they were selected on."""
    write_tensors(path, method.state_dict(), {"selected_on": selected_on, "episodes": episodes})


def write_train_summary(summary: TrainSummary) -> None:
    """Write the file that says that a run is finished."""
    write_json(summary.out / SUMMARY_FILE, summary.to_json())


def read_train_summary(folder: Path) -> TrainSummary | None:
    """How the run ended, None while it has not. Raises FewShotError on a file that says something else."""
    path = folder / SUMMARY_FILE
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, Any] = {f.name: value[f.name] for f in fields(TrainSummary)} | {"out": folder}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise FewShotError(f"{path} is not the summary of a run ({error}); train again with another --out") from None
    if found["weights"] not in (BEST_FILE, LAST_FILE):
        raise FewShotError(f"{path}: weights ({found['weights']!r}) must be {BEST_FILE} or {LAST_FILE}")
    return TrainSummary(**found)


def build_method(name: str, keywords: Mapping[str, Any], *, spec: FeatureSpec, n_train_classes: int) -> Method:
    """The method for a store's cubes, with fresh weights from torch's random state. Raises FewShotError."""
    own = {k: v for k, v in keywords.items() if k not in ("cube_shape", "n_train_classes")}
    try:
        kind = load_method(name)
        if "variant" in own and "variant" not in kind.keywords():
            raise FewShotError(f"{name} has no variants; leave '{own['variant']}' out")
        return kind.build(cube_shape=spec.cube_shape, n_train_classes=n_train_classes, **own)
    except TypeError as error:
        raise FewShotError(f"method '{name}' cannot be built with {own}: {error}") from None
    except FewShotError:
        raise
    except Exception as error:
        found = find_method(name)
        if not found.distribution:
            raise
        raise FailedError(
            f"method '{name}' of distribution {found.distribution} cannot be built ({reason_of(error)}); mend or "
            "uninstall that distribution"
        ) from error


def load_run(path: Path, store: Store, *, device: torch.device | str = "cpu") -> Run:
    """Load the method of a run, by its folder or one of its weights files, for the cubes of a store; see
    `load_run_for`."""
    return load_run_for(path, store.spec, f"store {store.path}", device=device)


def load_run_for(path: Path, spec: FeatureSpec, whose: str, *, device: torch.device | str = "cpu") -> Run:
    """Load the method of a run for cubes of a recipe, which are those of `whose`, in words.

    Raises FewShotError or SpecMismatchError when the run is not finished, was trained on cubes of another shape or
    recipe, has weights that do not fit, or is a pickle (refused unread).
    """
    path = Path(path)
    if path.suffix.lower() in PICKLES:
        read_tensors(path)  # refuses, before anything is opened
    if not path.exists():
        raise FewShotError(f"checkpoint {path} does not exist; give the folder that train wrote")
    folder = path if path.is_dir() else path.parent
    config = read_config(folder)
    require_cubes(config, spec, whose, checkpoint=path)
    weights = folder / finished_summary(folder).weights if path.is_dir() else path
    tensors, note = read_tensors(weights)
    if note.get("selected_on") not in SELECTED_ON:
        raise FewShotError(f"{weights} does not say what it was selected on; give the folder that train wrote")
    with torch.random.fork_rng(devices=[]):
        method = build_method(
            config.method, config.keywords, spec=config.spec, n_train_classes=len(config.train_classes)
        )
    load_exactly(method, tensors, weights)
    return Run(method.to(device), config, folder, weights, note["selected_on"])


def require_cubes(config: RunConfig, spec: FeatureSpec, whose: str, *, checkpoint: Path) -> None:
    """Raise unless the cubes are of the recipe that the run was trained on; their shape is named first."""
    here, there = config.spec.cube_shape, spec.cube_shape
    if here != there:
        raise FewShotError(
            f"{checkpoint} is a checkpoint of cubes {_x(here)}, {whose} has {_x(there)}; "
            "train on this store, or give the store that it was trained on"
        )
    config.spec.require_equal(spec, here=f"checkpoint {checkpoint}", there=whose)


def finished_summary(folder: Path) -> TrainSummary:
    """How a run ended. Raises FewShotError where it has not."""
    summary = read_train_summary(folder)
    if summary is None:
        best = folder / BEST_FILE
        hint = f", or give its best weights so far, {best}" if best.is_file() else ""
        raise FewShotError(f"the run {folder} is not finished; run the same train command to finish it{hint}")
    return summary


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
