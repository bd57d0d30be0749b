"""The result record: every score is one JSON file, beside the predictions that it was computed from."""

import hashlib
import io
import json
import re
import zipfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.atomic import write_bytes, write_json
from .errors import FewShotError

RECORD_SCHEMA = 3
SELECTED_ON = ("val", "none", "test")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_TYPES: dict[str, tuple[type, ...]] = {
    "schema": (int,),
    "method": (str,),
    "variant": (str, type(None)),
    "preset": (str, type(None)),
    "adapter": (bool,),
    "dataset": (str,),
    "backbone": (str,),
    "layer": (str,),
    "time": (str,),
    "cube_shape": (list,),
    "frames": (int,),
    "size": (int,),
    "random_weights": (bool,),
    "way": (int,),
    "shot": (int,),
    "query_mode": (str,),
    "queries": (int,),
    "episodes_from": (str,),
    "source_shared": (float, int, type(None)),
    "episodes": (int,),
    "split": (str,),
    "classes": (int,),
    "accuracy": (float, int),
    "ci95": (float, int),
    "ci95_clustered": (list,),
    "ece": (float, int),
    "seed": (int, type(None)),
    "list_seed": (int, type(None)),
    "precision": (str,),
    "train_precision": (str, type(None)),
    "recipe": (str,),
    "store": (str,),
    "episode_list": (str,),
    "coverage": (dict,),
    "pretraining": (dict,),
    "selected_on": (str,),
    "trained_on": (dict, type(None)),
    "seen_classes": (list,),
    "versions": (dict,),
    "seconds": (float, int),
    "predictions": (dict,),
}


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """One score. Field names are those of the JSON file.

    variant: of the method, with what was switched off behind slashes (`full/no-residual`), None where it has none;
    adapter: whether the shared adapter stood in front; dataset, backbone: of the store that was scored, as are
    layer, time, cube_shape [c, t, h, w], frames, size: see `FeatureSpec`; random_weights: whether the backbone's were
    drawn, not learned; queries: in the episode (`single`) or of each class (`per_class`); episodes_from,
    source_shared: see `Listing`; classes: of the split that were scored; accuracy: fraction; ci95: half-width over
    episodes; ci95_clustered: [low, high] by class and video; ece: expected calibration error; seed: of training, None
    where nothing was trained; list_seed: of the test list, None when it came from a file; precision: of the relation
    maps, `fp32` or `bf16`; train_precision: of the run's training, None without one; recipe, store, episode_list:
    sha256; coverage: videos used, failed, missing; pretraining: what the weights saw, see pretraining.py; selected_on:
    `val`, `none`, or `test` (published protocols do); trained_on: {dataset, split_scheme, store} of the run, None
    without one; seen_classes: those of the split that run or backbone was trained on (empty unless allowed);
    predictions: {path relative to the record, sha256} of an npz without pickle.
    """

    method: str
    variant: str | None
    preset: str | None
    adapter: bool
    dataset: str
    backbone: str
    layer: str
    time: str
    cube_shape: list[int]
    frames: int
    size: int
    random_weights: bool
    way: int
    shot: int
    query_mode: str
    queries: int
    episodes_from: str
    source_shared: float | None
    episodes: int
    split: str
    classes: int
    accuracy: float
    ci95: float
    ci95_clustered: list[float]
    ece: float
    seed: int | None
    list_seed: int | None
    precision: str
    train_precision: str | None
    recipe: str
    store: str
    episode_list: str
    coverage: dict[str, Any]
    pretraining: dict[str, Any]
    selected_on: str
    trained_on: dict[str, str] | None
    seen_classes: list[str]
    versions: dict[str, str]
    seconds: float
    predictions: dict[str, str]
    schema: int = RECORD_SCHEMA

    def __post_init__(self) -> None:
        for name, types in _TYPES.items():
            value = getattr(self, name)
            # A bool passes for an int in Python, and must not here.
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise FewShotError(
                    f"result record: {name} ({value!r}) must be {' or '.join(t.__name__ for t in types)}"
                )
        if not 0 <= self.accuracy <= 1:
            raise FewShotError(f"result record: accuracy ({self.accuracy}) must be a fraction from 0 to 1")
        if len(self.cube_shape) != 4 or any(type(n) is not int or n < 1 for n in self.cube_shape):
            raise FewShotError(f"result record: cube_shape ({self.cube_shape!r:.80}) must be sizes [c, t, h, w]")
        if self.selected_on not in SELECTED_ON:
            raise FewShotError(
                f"result record: selected_on ('{self.selected_on}') must be one of {', '.join(SELECTED_ON)}"
            )
        if set(self.predictions) != {"path", "sha256"} or not _HEX64.fullmatch(str(self.predictions["sha256"])):
            raise FewShotError("result record: predictions must be {path, sha256}")
        if Path(self.predictions["path"]).name != self.predictions["path"]:
            raise FewShotError("result record: the predictions must lie beside the record, with a plain file name")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, schema first."""
        value = asdict(self)
        return {name: value[name] for name in _TYPES}


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was answered. m queries in the order of their episodes; class_names are sorted.

    episode: int64 [m]; query_row: int64 [m], row of the query's video in the store; label, predicted: int64 [m],
    ways; logits: float32 [m, way]; classes: int64 [m, way], each way's class among `class_names`.
    """

    episode: np.ndarray
    query_row: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    logits: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        m, way = self.logits.shape
        flat = (self.episode, self.query_row, self.label, self.predicted)
        if any(a.shape != (m,) for a in flat) or self.classes.shape != (m, way):
            raise FewShotError("predictions: all arrays must have one entry a query")

    @property
    def correct(self) -> np.ndarray:
        """bool [m]."""
        return self.predicted == self.label

    @property
    def query_class(self) -> np.ndarray:
        """int64 [m]: the true class of each query among `class_names`."""
        return np.take_along_axis(self.classes, self.label[:, None], axis=1)[:, 0]  # [m]

    def by_episode(self, values: np.ndarray) -> np.ndarray:
        """Values [m] as [episodes, q]: every episode has equally many queries."""
        return values.reshape(len(np.unique(self.episode)), -1)  # [episodes, q]

    def to_bytes(self) -> bytes:
        """The npz file."""
        stream = io.BytesIO()
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "class_names"}
        np.savez_compressed(stream, **arrays, class_names=np.array(self.class_names, dtype=np.str_))
        return stream.getvalue()


def write_result(path: Path, predictions: Predictions, **record: Any) -> ResultRecord:
    """Write PATH.npz, then PATH.json with its name and digest; each whole or not at all. Returns the record."""
    data = predictions.to_bytes()
    # Not with_suffix: a name may hold dots.
    npz = path.parent / f"{path.name}.npz"
    named = {"path": npz.name, "sha256": hashlib.sha256(data).hexdigest()}
    made = ResultRecord(**record, predictions=named)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(npz, data)
    write_json(path.parent / f"{path.name}.json", made.to_json())
    return made


def read_record(path: Path) -> ResultRecord:
    """Read and check a record. Raises FewShotError naming the file and the field."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FewShotError(f"{path} is not a result record: {error}") from None
    return record_of(value, path)


def record_of(value: Any, path: Path) -> ResultRecord:
    """The record in a JSON value of the file `path`. Raises FewShotError naming the file and the field."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema is not None and schema != RECORD_SCHEMA:
        raise FewShotError(f"{path} has schema {schema!r}, but this program reads {RECORD_SCHEMA}; evaluate again")
    wrong = sorted(set(_TYPES) ^ set(value)) if isinstance(value, dict) else sorted(_TYPES)
    if wrong:
        raise FewShotError(f"{path} is not a result record: missing or unknown fields ({', '.join(wrong)})")
    try:
        return ResultRecord(**value)
    except FewShotError as error:
        raise FewShotError(f"{path}: {error}") from None


def read_predictions(path: Path, sha256: str | None = None) -> Predictions:
    """Read predictions, never unpickling; with `sha256`, refuse a file with other bytes. Raises FewShotError."""
    return predictions_of(Path(path).read_bytes(), path, sha256)


def predictions_of(data: bytes, path: Path, sha256: str | None = None) -> Predictions:
    """The predictions in the bytes of the file `path`; see `read_predictions`."""
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise FewShotError(f"{path} is not the file that its record names (sha256 differs); evaluate again")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {f.name: arrays[f.name] for f in fields(Predictions)}
        names = tuple(str(name) for name in found.pop("class_names"))
        return Predictions(**found, class_names=names)
    # Arrays of any shape may stand in a stranger's file, and heads that promise more than any memory.
    except (ValueError, TypeError, KeyError, OSError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise FewShotError(f"{path} holds no predictions: {' '.join(str(error).split())}") from None
