"""What a loaded backbone must be, whoever wrote it: a whole record, and a network that does what the record says."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...cache.plugins import Target, reason_of
from ..errors import ExtractError
from .base import Backbone


def check_record(value: Any, loader: Target) -> Backbone:
    """`value` if it is the `Backbone` that `loader` promises. ExtractError naming who returned it otherwise."""
    who = f"backbone '{loader.name}'" + (f" of distribution {loader.distribution}" if loader.distribution else "")
    if not isinstance(value, Backbone):
        raise ExtractError(
            f"{who}: {loader.target} must return a Backbone, but gave {type(value).__name__}; "
            "mastaf.extract.backbones.wrap makes one of a network"
        )
    if value.name != loader.name:
        raise ExtractError(f"{who}: the Backbone's name ('{value.name}') must be its entry point's")
    if not re.fullmatch(r"[0-9a-f]{64}", str(value.weights_sha256)):
        raise ExtractError(
            f"{who}: weights_sha256 ({value.weights_sha256!r}) must be 64 hex digits, as weights.digest gives"
        )
    shape = value.cube_shape
    if not (isinstance(shape, tuple) and len(shape) == 4 and all(type(n) is int and n > 0 for n in shape)):
        raise ExtractError(f"{who}: cube_shape ({shape}) must be four positive whole numbers (c, t, h, w)")
    try:
        facts = json.loads(json.dumps(value.facts, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ExtractError(f"{who}: facts must be plain JSON values ({reason_of(error)})") from error
    if not isinstance(facts.get("pretraining"), list) or not isinstance(facts.get("licence"), str):
        raise ExtractError(f"{who}: facts ({facts}) must have a list `pretraining` and a text `licence`")
    return replace(value, facts={**facts, "plugin": loader.distribution}) if loader.distribution else value


def random_clips(backbone: Backbone) -> Tensor:
    """Clips [b, frames, size, size, 3], always the same: two, so that a network that mixes up clips is seen."""
    shape = (2, backbone.frames, backbone.size, backbone.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def try_network(backbones: Sequence[Backbone], run: Callable[[Tensor], Sequence[Tensor]]) -> Sequence[Tensor]:
    """What `run` makes of random clips: [b, c, t, h, w] of each backbone, all layers of one network. ExtractError
    unless these are finite numbers of as many axes, whatever the network raises or gives instead."""
    first = backbones[0]
    clips = random_clips(first)
    what = f"backbone '{first.name}' on clips of {first.frames} x {first.size} x {first.size}"
    try:
        with torch.inference_mode():
            found = run(clips)
    except Exception as error:
        raise ExtractError(f"{what} failed: {reason_of(error)}; give other --frames or --size, or mend it") from error
    for cubes in found:
        if not isinstance(cubes, Tensor):
            raise ExtractError(f"{what} must give a tensor [b, c, t, h, w], but gave {type(cubes).__name__}")
        if cubes.dim() != 5 or len(cubes) != len(clips):
            raise ExtractError(f"{what} must give [{len(clips)}, c, t, h, w], but gave {list(cubes.shape)}")
        if not cubes.isfinite().all():
            raise ExtractError(f"{what} must give finite numbers, but gave NaN or Inf; its weights are broken")
    return found


def check_cubes(backbones: Sequence[Backbone], run: Callable[[Tensor], Sequence[Tensor]]) -> Sequence[Tensor]:
    """See `try_network`; the cubes must be of the declared shapes, too."""
    found = try_network(backbones, run)
    for backbone, cubes in zip(backbones, found, strict=True):
        shape = tuple(cubes.shape[1:])
        if shape != backbone.cube_shape:
            raise ExtractError(
                f"backbone '{backbone.name}' at {backbone.layer} declares cubes of {_words(backbone.cube_shape)}, "
                f"gave {_words(shape)}; correct cube_shape in its loader"
            )
    return found


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
