"""A 3D ResNet and its weights become a `Backbone`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ExtractError
from ..pixels import PixelRule
from .base import Backbone
from .resnet3d import ResNet3D, ResNet3DPlan, random_state
from .weights import WeightsFile, digest, find_weights, fit_state, read_weights

_DEPTHS: dict[tuple[str, tuple[int, ...]], int] = {
    ("basic", (1, 1, 1, 1)): 10,
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
    ("bottleneck", (3, 24, 36, 3)): 200,
}


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
        file = read_weights(find_weights(weights, advice=advice))
        state, source, known = _fitted(file, net, name, advice), _source(file.path), facts(file)
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


def _fitted(file: WeightsFile, net: ResNet3D, name: str, advice: str) -> dict[str, Tensor]:
    like = net.state_dict()
    return fit_state(file, like, backbone=name, ignored=("fc.",), describe=looks_like, remedy=f"; {advice}")


def _source(path: Path) -> str:
    return f"{path.name}, included" if path.parent == Path(__file__).parent else str(path)


def looks_like(tensors: Mapping[str, Tensor]) -> str:
    """Which network the names and shapes of a state dict belong to, in words."""
    if "conv1_s.weight" in tensors:
        return "a R(2+1)D network"
    stem = tensors.get("conv1.weight")
    if stem is None:
        return "no ResNet"
    if stem.dim() != 5:
        return f"a {stem.dim() - 2}D network"
    kind = "bottleneck" if "layer1.0.conv3.weight" in tensors else "basic"
    counts = tuple(len({k.split(".")[1] for k in tensors if k.startswith(f"layer{n}.")}) for n in range(1, 5))
    depth = _DEPTHS.get((kind, counts))
    return f"a 3D ResNet-{depth}" if depth else f"a 3D ResNet of {kind} blocks {counts}"
