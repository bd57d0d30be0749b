"""Backbones by name."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ...cache.plugins import Target, reason_of
from ..errors import ExtractError
from .base import Backbone
from .check import check_record
from .plugins import HUB, find_loader, import_loader


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
    """Load a backbone of the table or of a plug-in, in eval mode.

    name: of the table, of a plug-in, or `hf:MODEL_ID`; weights: a file, a folder, `hub`, `random`, or None for the
    backbone's own; frames, size, layer: None for the backbone's own; resize: `squash` or `short`; time: `keep`, or
    `mean` for cubes averaged over time; revision: branch, tag or commit on the hub; seed: of random weights. Raises
    ExtractError on an unknown name, and for whatever is wrong with the weights.
    """
    loader = find_loader(name)
    for argument, value in (("frames", frames), ("size", size)):
        if value is not None and value < 1:
            raise ExtractError(f"{argument} ({value}) must be at least 1")
    asked = {"weights": weights, "frames": frames, "size": size, "resize": resize, "layer": layer, "seed": seed}
    if name.startswith(HUB):
        asked["model_id"] = name.removeprefix(HUB)
    load = import_loader(loader)
    if revision is not None:
        if "revision" not in inspect.signature(load).parameters:
            raise ExtractError(f"revision ({revision}) is for weights of the hub, which '{name}' has not; leave it out")
        asked["revision"] = revision
    found = check_record(_ask_plugin(loader, load, asked), loader) if loader.distribution else load(**asked)
    return found if found.time == time else found.at(found.layer, time=time)


def load_layers(name: str, *, layers: Sequence[str] = (), **how: Any) -> list[Backbone]:
    """One network, as `load_backbone` loads it with the keyword arguments `how`, at each of `layers`; at its last
    stage where there are none."""
    first = load_backbone(name, layer=layers[0] if layers else None, **how)
    return [first, *(first.at(layer) for layer in layers[1:])]


def _ask_plugin(loader: Target, load: Callable[..., Any], asked: dict[str, Any]) -> Any:
    """What a plug-in's function returns. Whatever it raises but an ExtractError is a fault of the plug-in."""
    try:
        return load(**asked)
    except ExtractError:
        raise
    except Exception as error:
        raise ExtractError(
            f"backbone '{loader.name}' of distribution {loader.distribution} failed to load ({reason_of(error)}): "
            f"{loader.target} must take {', '.join(asked)} by name and return a Backbone"
        ) from error
