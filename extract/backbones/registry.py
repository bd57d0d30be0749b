"""Backbones by name."""

from importlib import import_module

from ...cache.console import unknown_name
from ..errors import ExtractError
from . import BACKBONES
from .base import Backbone


def load_backbone(
    name: str,
    *,
    weights: str | None = None,
    frames: int | None = None,
    size: int | None = None,
    resize: str = "squash",
    layer: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a backbone of the table, in eval mode.

    weights: a file, `random`, or None for the backbone's own; frames, size, layer: None for the backbone's own;
    resize: `squash` or `short`; seed: of random weights. Raises ExtractError on an unknown name, and for whatever
    is wrong with the weights.
    """
    if name not in BACKBONES:
        raise ExtractError(unknown_name("backbone", name, BACKBONES))
    for argument, value in (("frames", frames), ("size", size)):
        if value is not None and value < 1:
            raise ExtractError(f"{argument} ({value}) must be at least 1")
    module, function = BACKBONES[name].split(":")
    load = getattr(import_module(module), function)
    return load(weights=weights, frames=frames, size=size, resize=resize, layer=layer, seed=seed)
