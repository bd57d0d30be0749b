"""What a training run is: every setting that can change its weights, as one JSON file that checks itself."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from ...cache.atomic import write_json
from ...cache.checks import parse_json
from ...cache.errors import CacheError
from ...cache.spec import FeatureSpec
from ..errors import FewShotError

CONFIG_SCHEMA = 1
CONFIG_FILE = "config.json"
_NUMBER = (int, float)
_LATER = {"schedule", "step_every", "step_factor", "clip_norm", "label_smoothing", "train_precision"}
_LATER |= {"select_on", "val_list", "plugin"}
_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("method", "store", "dataset", "split_scheme", "query_mode", "optimiser"), (str,)),
    **dict.fromkeys(("schedule", "train_precision", "select_on", "val_list"), (str,)),
    **dict.fromkeys(("train_videos", "val_videos"), (str,)),
    **dict.fromkeys(("way", "shot", "queries", "seed", "batch", "train_episodes", "val_every", "schema"), (int,)),
    **dict.fromkeys(("lr", "momentum", "weight_decay", "label_smoothing"), _NUMBER),
    **dict.fromkeys(("step_factor", "clip_norm"), (*_NUMBER, type(None))),
    **dict.fromkeys(("keywords", "provenance", "plugin"), (dict,)),
    **dict.fromkeys(("val_episodes", "patience", "step_every"), (int, type(None))),
    **dict.fromkeys(("train_classes", "views"), (tuple,)),
    "spec": (FeatureSpec,),
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of one run.

    keywords: the method's `describe()`; spec, store: recipe and digest of the store trained on; train_videos,
    val_videos: digests of the usable videos ('' where there are none); train_classes: sorted, their order gives the
    global class ids; select_on: split that selects, or `none`; val_episodes: how many select, None when nothing does;
    val_list: sha256 of their list file, '' where they were drawn; views: stored views drawn in training;
    schedule to train_precision: see `Optimisation` (step_every, step_factor: None unless schedule is `step`);
    plugin: whose code the method is, and which, see `plugin_code` ({} for a method of the table);
    provenance: versions, device, threads and path, which do not tell runs apart.
    """

    method: str
    keywords: dict[str, Any]
    spec: FeatureSpec
    store: str
    dataset: str
    split_scheme: str
    train_classes: tuple[str, ...]
    train_videos: str
    val_videos: str
    way: int
    shot: int
    query_mode: str
    queries: int
    seed: int
    optimiser: str
    lr: float
    momentum: float
    weight_decay: float
    batch: int
    train_episodes: int
    val_every: int
    val_episodes: int | None
    patience: int | None
    views: tuple[int, ...]
    schedule: str = "constant"
    step_every: int | None = None
    step_factor: float | None = None
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    train_precision: str = "fp32"
    select_on: str = "val"
    val_list: str = ""
    plugin: dict[str, str] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = CONFIG_SCHEMA

    def __post_init__(self) -> None:
        for name, types in _TYPES.items():
            value = getattr(self, name)
            if not isinstance(value, types) or isinstance(value, bool):
                raise FewShotError(f"run settings: {name} ({value!r}) must be {' or '.join(t.__name__ for t in types)}")
        if not all(isinstance(name, str) for name in self.train_classes):
            raise FewShotError("run settings: train_classes must be names")
        if self.schema != CONFIG_SCHEMA:
            raise FewShotError(
                f"run settings: schema ({self.schema}) must be {CONFIG_SCHEMA}; use the mastaf it is from"
            )

    @property
    def train_class_ids(self) -> dict[str, int]:
        """Global class ids by name."""
        return {name: number for number, name in enumerate(self.train_classes)}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; the digest of the recipe is added for readers."""
        value = asdict(self) | {"spec": self.spec.to_json(), "recipe": self.spec.recipe}
        return json.loads(json.dumps(value))

    @classmethod
    def from_json(cls, value: Any, source: Path) -> Self:
        """Inverse of `to_json`. Raises FewShotError naming `source` and what is wrong with it."""
        known = {f.name for f in fields(cls)} | {"recipe"}
        # A run of before a setting existed was trained with its default.
        wrong = sorted((known ^ set(value)) - (_LATER - set(value))) if isinstance(value, dict) else ["everything"]
        if wrong:
            raise FewShotError(f"{source} holds no run settings: missing or unknown fields ({', '.join(wrong)})")
        listed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k != "recipe"}
        listed.setdefault("select_on", "none" if listed["val_episodes"] is None else "val")
        try:
            listed["spec"] = FeatureSpec.from_json(value["spec"])
            return cls(**listed)
        except (CacheError, FewShotError, TypeError) as error:
            raise FewShotError(f"{source}: {error}") from None

    def differences(self, other: "RunConfig") -> list[str]:
        """Each setting that tells the runs apart, in words."""
        here, there = self.to_json(), other.to_json()
        found = self.spec.diff(other.spec)
        for name in here:
            if here[name] != there[name] and name not in ("spec", "recipe", "provenance", "keywords", "plugin"):
                found.append(f"{name}: {_short(here[name])} here, {_short(there[name])} there")
        for name in sorted(set(here["keywords"]) | set(there["keywords"])):
            ours, theirs = here["keywords"].get(name), there["keywords"].get(name)
            if ours != theirs:
                found.append(f"{name}: {ours} here, {theirs} there")
        if self.plugin != other.plugin:
            found.append(f"code of the plug-in: {_code(self.plugin)} here, {_code(other.plugin)} there")
        return found


def write_config(folder: Path, config: RunConfig) -> None:
    """Write the settings into a run's folder, whole or not at all."""
    write_json(folder / CONFIG_FILE, config.to_json())


def read_config(folder: Path) -> RunConfig:
    """Read and check a run's settings. Raises FewShotError."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise FewShotError(f"{folder} is not a run (it has no {CONFIG_FILE}); give the folder that train wrote")
    try:
        value = parse_json(path.read_bytes(), str(path))
    except CacheError as error:
        raise FewShotError(str(error)) from None
    return RunConfig.from_json(value, path)


def run_name(store: str, method: str, keywords: dict[str, Any], *, way: int, shot: int, seed: int | None = None) -> str:
    """The default name of a run: store, method, each keyword that was given, way, shot, seed."""
    words = [str(v) if isinstance(v, str) else f"{k}-{v}".lower() for k, v in sorted(keywords.items())]
    seeded = [] if seed is None else [f"seed{seed}"]
    return "_".join([store, method, *words, f"{way}way", f"{shot}shot", *seeded])


def _code(plugin: dict[str, str]) -> str:
    return f"{plugin.get('distribution', 'unknown')} ({plugin.get('source', '')[:12] or 'no source'})"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:12] + "..."
