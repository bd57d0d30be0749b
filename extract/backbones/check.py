"""What a loaded backbone must be, whoever wrote it: a whole record, and a network that does what the record says."""

import json
import re
from dataclasses import replace
from typing import Any

import torch

from ..errors import ExtractError
from .base import Backbone
from .plugins import Loader, reason_of

CLIPS = 2  # two, so that a network that mixes up clips and frames is seen


def check_record(value: Any, loader: Loader) -> Backbone:
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


def check_cubes(backbone: Backbone) -> None:
    """Run one batch of random clips. ExtractError unless it gives finite cubes of the declared shape."""
    shape = tuple(measure(backbone).shape)
    if shape != backbone.cube_shape:
        raise ExtractError(
            f"backbone '{backbone.name}' declares cubes of {_words(backbone.cube_shape)}, gave {_words(shape)}; "
            "correct cube_shape in its loader"
        )


def measure(backbone: Backbone) -> torch.Tensor:
    """The cube [c, t, h, w] of a random clip. ExtractError unless the network gives finite numbers of four axes."""
    frames, size = backbone.frames, backbone.size
    draw = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (CLIPS, frames, size, size, 3), dtype=torch.uint8, generator=draw)
    what = f"backbone '{backbone.name}' on clips of {frames} x {size} x {size}"
    try:
        with torch.inference_mode():
            cubes: Any = backbone.forward(clips)  # [b, c, t, h, w]
    except Exception as error:
        raise ExtractError(f"{what} failed: {reason_of(error)}; give other --frames or --size, or mend it") from error
    if not isinstance(cubes, torch.Tensor):
        raise ExtractError(f"{what} must give a tensor [b, c, t, h, w], but gave {type(cubes).__name__}")
    if cubes.dim() != 5 or len(cubes) != CLIPS:
        raise ExtractError(f"{what} must give [{CLIPS}, c, t, h, w], but gave {list(cubes.shape)}")
    if not (cubes.is_floating_point() and cubes.isfinite().all()):
        raise ExtractError(f"{what} must give finite numbers, but gave NaN, Inf or integers; its weights are broken")
    return cubes[0]


def _words(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
