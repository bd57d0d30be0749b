"""Where a model in Hugging Face's format is: a folder given, one in $MASTAF_WEIGHTS, or the hub, fetched once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ....cache.hub import fetch_snapshot
from ...errors import ExtractError
from ..weights import weight_folders

_JSON = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
# README.md: the model's card, with its licence and training data.
_ABOUT = (*_JSON, "README.md")
_SAFE = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A folder with config.json, weights and processor files. revision: the hub's commit, '' for one's own folder;
    source: where it came from, in words."""

    path: Path
    revision: str
    source: str

    def settings(self) -> dict[str, bytes]:
        """The JSON files that tell what the weights are of, and what pixels they saw: name -> content."""
        there = [self.path / name for name in _JSON if self.source and (self.path / name).is_file()]
        return {path.name: path.read_bytes() for path in there}


def find_model(model_id: str, *, weights: str | None, revision: str | None, only_config: bool = False) -> ModelFolder:
    """The folder of `model_id` (`owner/name` on the hub).

    weights: a folder; `hub`; or None for a folder of that name in $MASTAF_WEIGHTS, else the hub. revision: branch,
    tag or commit on the hub. only_config: leave the weights themselves on the hub. ExtractError in one line.
    """
    if weights not in (None, "hub"):
        return _own_folder(Path(weights), revision)
    for folder in weight_folders() if weights is None else ():
        for name in (model_id, model_id.split("/")[-1]):
            if (folder / name / "config.json").is_file():
                return _own_folder(folder / name, revision)
    return _from_hub(model_id, revision, only_config=only_config)


def where_to_put(model_id: str) -> str:
    """What to do where the hub cannot be reached, in words."""
    return (
        f"on a machine with a network run `hf download {model_id} --local-dir DIR` and pass --weights DIR, or put "
        f"DIR into the folder that $MASTAF_WEIGHTS names, as {model_id.split('/')[-1]}"
    )


def _own_folder(path: Path, revision: str | None) -> ModelFolder:
    if not (path / "config.json").is_file():
        raise ExtractError(
            f"weights ({path}) must be a folder with config.json, preprocessor_config.json and model.safetensors, as "
            "`hf download MODEL_ID --local-dir DIR` makes it"
        )
    if revision:
        raise ExtractError(
            f"revision ({revision}) names a commit on the hub, but {path} is a folder; leave --revision out, or pass "
            "--weights hub"
        )
    return ModelFolder(path=path, revision="", source=str(path))


def _from_hub(model_id: str, revision: str | None, *, only_config: bool) -> ModelFolder:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model_id):
        raise ExtractError(f"model '{model_id}' must be a name on the Hugging Face hub, such as facebook/dinov2-base")
    path = _fetch(model_id, revision, _ABOUT)
    if not (path / "config.json").is_file():
        raise ExtractError(f"'{model_id}' on the hub has no config.json, so it is no model of the transformers library")
    if not only_config:
        # Pickles are fetched only where there is nothing better.
        path = _fetch(model_id, revision, (*_ABOUT, *_SAFE))
        if not any(path.glob("*.safetensors")):
            path = _fetch(model_id, revision, (*_ABOUT, *_PICKLED))
    commit = path.name if _COMMIT.fullmatch(path.name) else ""
    return ModelFolder(path=path, revision=commit, source=f"hub: {model_id} at {commit[:12] or revision or 'main'}")


def _fetch(model_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    without = where_to_put(model_id)
    return fetch_snapshot(model_id, revision, patterns, raising=ExtractError, mend="--revision", without=without)
