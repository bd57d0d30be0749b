"""A 3D ResNet and its weights become a `Backbone`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..decoding.pixels import PixelRule
from ..errors import ExtractError
from .base import Backbone
from .fit import load_weights
from .resnet3d import ResNet3D, ResNet3DPlan, random_state
from .weights import WeightsFile, digest


def load_resnet3d(
    *,
    name: str,
    plan: ResNet3DPlan,
    pixels: PixelRule,
    frames: int,
    layer: str | None,
    weights: str,
    seed: int,
    advice: str,
    facts: Callable[[WeightsFile], dict[str, Any]],
    adjust: Callable[[dict[str, Tensor]], None] | None = None,
) -> Backbone:
    """Build the network and give it `weights` (a file, or `random`).

    advice: where the weights are had; facts: what a file's weights saw; adjust: edits a random state dict in place.
    """
    layer = _checked_layer(layer, plan, name)
    with torch.device("meta"):  # no memory and no random numbers are spent on values that are replaced at once
        net = ResNet3D(plan)
    if weights == "random":
        state, source = random_state(net, seed), f"random (seed {seed})"
        known: dict[str, Any] = {"pretraining": [], "licence": "none"}
        if adjust:
            adjust(state)
    else:
        file, state = load_weights(weights, net.state_dict(), backbone=name, advice=advice, ignored=("fc.",))
        source, known = _source(file.path), facts(file)
    net.load_state_dict(state, assign=True)
    return Backbone(
        name=name,
        frames=frames,
        pixels=pixels,
        layer=layer,
        cube_shape=plan.cube_shape(frames, pixels.size, layer),
        weights_sha256=digest(state),
        weights_source=source,
        facts=known,
        module=net.eval(),
    )


def _checked_layer(layer: str | None, plan: ResNet3DPlan, name: str) -> str:
    """The layer, by default the last one; before any weights are read."""
    layers = ("stem", *(f"layer{number}" for number in range(1, len(plan.blocks) + 1)))
    if layer is not None and layer not in layers:
        raise ExtractError(f"layer ('{layer}') of backbone '{name}' must be one of {', '.join(layers)}")
    return layer or layers[-1]


def _source(path: Path) -> str:
    return f"{path.name}, included" if path.parent == Path(__file__).parent else str(path)
