"""A configuration of the transformers library and weights for it become a `Backbone`."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets.naming import some
from ...decoding.pixels import PixelRule, check_clip
from ...errors import ExtractError
from ..base import Backbone
from ..fit import fit_state
from ..weights import WeightsFile, advised, digest, read_weights
from .build import build_net, usual_frames, usual_size
from .model import load_model, random_model
from .positions import check_frames, refit_config, refit_state

# Fields of a configuration that no output depends on.
_NO_ARITHMETIC = frozenset(
    ("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
    + ("id2label", "label2id", "num_labels", "problem_type", "initializer_range")
)

# Names of a file's entries -> names of the model's.
Translate = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def own_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries as `mastaf finetune` writes them: those of the staged network, which holds the model as `model`."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def wrap(
    *,
    name: str,
    config: Any,
    pixels: PixelRule,
    frames: int,
    weights: Path | None,
    source: str,
    facts: Callable[[WeightsFile | None], Mapping[str, Any]],
    layer: str | None,
    seed: int,
    revision: str = "",
    beside: Mapping[str, bytes] | None = None,
    translate: Translate = own_names,
    advice: str = "",
) -> Backbone:
    """weights: a folder in Hugging Face's format, a file, or None for random ones drawn from `seed`; source: where
    they came from, in words; facts: what they saw, told from the file where it is one; translate: of a file's names;
    beside: see `Backbone`.
    """
    check_clip(frames, pixels.size)
    check_frames(frames, config, usual_frames(config), name)
    fitted = refit_config(config, frames=frames, size=pixels.size, name=name)
    usual = usual_size(config)
    if weights is None:
        model, missing = random_model(fitted, seed, name), set()
        known: Mapping[str, Any] = {"pretraining": [], "licence": "none"}
    elif weights.is_dir():
        model, missing = load_model(weights, config, name)
        known = facts(None)
    else:
        with advised(advice):
            file = read_weights(weights)
            with _tuned_otherwise(file, frames, pixels.size):
                model, missing = _from_file(file, fitted, name, translate), set()
        known = facts(file)
    loaded = model.state_dict()
    broken = [key for key, tensor in loaded.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if broken:
        raise ExtractError(f"weights ({source}) must be finite, but hold NaN or Inf: {some(broken, 3)}{_then(advice)}")
    if weights is not None and weights.is_dir() and fitted is not config:
        model = _refitted(model, config, fitted, name)
    net, state = build_net(model, fitted, frames=frames, size=pixels.size, usual=usual, name=name)
    lacking = sorted(missing & set(state))
    if lacking:
        raise ExtractError(
            f"weights ({source}) do not fit {name}: they lack {len(lacking)} entries, or hold them in other shapes "
            f"({some(lacking, 3)}); the folder's config.json and weights are of different models{_then(advice)}"
        )
    last = net.last_stage
    backbone = Backbone(
        name=name,
        frames=frames,
        pixels=pixels,
        layer=last,
        cube_shape=net.cube_shape(last, frames, pixels.size),
        # As loaded: the same weights at another number of frames have other positions, and the same name.
        weights_sha256=_identity({key: loaded[key] for key in state}, beside or {}),
        weights_source=source,
        facts=dict(known),
        module=net.eval(),
        revision=revision,
        beside=beside or {},
    )
    return backbone.at(layer or last)


def _identity(state: Mapping[str, Tensor], beside: Mapping[str, bytes]) -> str:
    """Digest of the weights, and of the configuration beside them: heads, activations and norms decide what cubes they
    make, and leave no trace in tensors."""
    tensors = digest(state)
    if "config.json" not in beside:
        return tensors
    told = {key: value for key, value in json.loads(beside["config.json"]).items() if key not in _NO_ARITHMETIC}
    return hashlib.sha256(f"{tensors} {json.dumps(told, sort_keys=True)}".encode()).hexdigest()


def _from_file(file: WeightsFile, config: Any, name: str, translate: Translate) -> nn.Module:
    model = random_model(config, 0, name)
    given = WeightsFile(file.path, translate(file.tensors), file.provenance)
    state = fit_state(given, model.state_dict(), backbone=name)
    model.load_state_dict(state, assign=True)
    return model


@contextmanager
def _tuned_otherwise(file: WeightsFile, frames: int, size: int) -> Iterator[None]:
    """Say of weights that do not fit what clips they were tuned on, as their positions are for those."""
    made = (file.provenance.get("frames", frames), file.provenance.get("size", size))
    try:
        yield
    except ExtractError as error:
        if made == (frames, size):
            raise
        raise ExtractError(f"{error}; they were tuned with --frames {made[0]} --size {made[1]}: pass these") from error


def _refitted(model: nn.Module, config: Any, fitted: Any, name: str) -> nn.Module:
    """The model for clips of another length or size, with the same weights."""
    other = random_model(fitted, 0, name)
    other.load_state_dict(refit_state(model.state_dict(), config, fitted), assign=True)
    return other


def _then(advice: str) -> str:
    return f"; {advice}" if advice else ""
