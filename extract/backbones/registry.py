"""Backbones by name."""

import inspect
from importlib import import_module
from typing import Any

from ...cache.console import unknown_name
from ..errors import ExtractError
from . import BACKBONES
from .base import Backbone

HUB = "hf:"


def table_name(name: str) -> str:
    """The entry of the table that a backbone's name stands for: itself, or `hf:MODEL_ID`. ExtractError if none."""
    found = "hf:MODEL_ID" if name.startswith(HUB) else name
    if found not in BACKBONES:
        raise ExtractError(unknown_name("backbone", name, BACKBONES))
    return found


def load_backbone(
    name: str,
    *,
    weights: str | None = None,
    frames: int | None = None,
    size: int | None = None,
    resize: str = "squash",
    layer: str | None = None,
    time: str = "keep",
    revision: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a backbone of the table, in eval mode.

    name: of the table, or `hf:MODEL_ID`; weights: a file, a folder, `hub`, `random`, or None for the backbone's own;
    frames, size, layer: None for the backbone's own; resize: `squash` or `short`; time: `keep`, or `mean` for cubes
    averaged over time; revision: branch, tag or commit on the hub; seed: of random weights. Raises ExtractError on an
    unknown name, and for whatever is wrong with the weights.
    """
    entry = table_name(name)
    for argument, value in (("frames", frames), ("size", size)):
        if value is not None and value < 1:
            raise ExtractError(f"{argument} ({value}) must be at least 1")
    module, function = BACKBONES[entry].split(":")
    load = getattr(import_module(module), function)
    more: dict[str, Any] = {"model_id": name.removeprefix(HUB)} if name.startswith(HUB) else {}
    if revision is not None:
        if "revision" not in inspect.signature(load).parameters:
            raise ExtractError(f"revision ({revision}) is for weights of the hub, which '{name}' has not; leave it out")
        more["revision"] = revision
    found = load(weights=weights, frames=frames, size=size, resize=resize, layer=layer, seed=seed, **more)
    return found if found.time == time else found.at(found.layer, time=time)
