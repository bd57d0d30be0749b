"""Any torch network becomes a `Backbone`: what a plug-in's author calls.

def load(*, weights, frames, size, resize, layer, seed):
    return wrap_module(
        name="mine",
        build=lambda: nn.Sequential(OrderedDict(stem=..., middle=..., last=...)),
        pixels=pixel_rule(size or 112, resize=resize, mean=(0.43, 0.39, 0.38), std=(0.23, 0.22, 0.22)),
        frames=frames or 16,
        layer=layer,
        weights=weights or "mine.pth",
        seed=seed,
        advice="the weights are at https://...; put mine.pth into a folder that $MASTAF_WEIGHTS names",
        pretraining=("Kinetics-400",),
        licence="MIT",
    )
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..decoding.pixels import PixelRule
from ..errors import ExtractError
from .base import Backbone, StagedNet
from .check import try_network
from .fit import fit_state, load_weights
from .weights import WeightsFile, advised, digest

WHOLE = "net"  # the only stage of a network that is no nn.Sequential


class WrappedNet(StagedNet):
    """A network as stages: the children of an nn.Sequential, or the whole. Its state dict is the network's own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        # A subclass may run its children in another way.
        self._staged = type(net) is nn.Sequential
        if type(net) is nn.Sequential and len(dict(net.named_children())) != len(net):
            raise ExtractError("stages of an nn.Sequential must be modules of their own; build one for each place")
        if not self.stages():
            raise ExtractError("an nn.Sequential must have a stage, but is empty")

    def stages(self) -> dict[str, nn.Module]:
        """Name -> stage, in order."""
        return dict(self.net.named_children()) if self._staged else {WHOLE: self.net}

    def state_dict(self, *args: Any, **keywords: Any) -> dict[str, Any]:
        """Under the network's own names, as its author's files have them."""
        return self.net.state_dict(*args, **keywords)

    def load_state_dict(self, *args: Any, **keywords: Any) -> Any:
        """Under the network's own names."""
        return self.net.load_state_dict(*args, **keywords)


def wrap_module(
    *,
    name: str,
    build: Callable[[], nn.Module],
    pixels: PixelRule,
    frames: int,
    weights: str | Mapping[str, Tensor] | None,
    advice: str,
    seed: int = 0,
    layer: str | None = None,
    cube_shape: tuple[int, int, int, int] | None = None,
    pretraining: Sequence[str] = ("unknown",),
    licence: str = "unknown",
    ignored: Sequence[str] = (),
) -> Backbone:
    """A `Backbone` of the network that `build` makes: normalised clips [b, 3, t, h, w] in, cubes [b, c, t, h, w] out.

    name: the entry point's; build: takes nothing, and its random numbers follow `seed`; an nn.Sequential's children
    are the stages, by their names, anything else is one stage, `net`. weights: a file (found as `find_weights` says),
    `random`, or a state dict; advice: where to get the file, and where to put it; ignored: prefixes of its entries
    that the network does without. layer: None for the last stage; cube_shape: (c, t, h, w) of that layer, or None to
    measure it on one clip. pretraining, licence: what the weights saw, in words, and their licence.
    """
    module = WrappedNet(_built(build, seed))
    facts: dict[str, Any] = {"pretraining": list(pretraining), "licence": licence}
    if weights is None:
        raise ExtractError(f"weights of backbone '{name}' must be a file, or `random`; {advice}")
    if weights == "random":
        source, facts = f"random (seed {seed})", {"pretraining": [], "licence": "none"}
    else:
        source, facts = _give(module, weights, facts, name=name, advice=advice, ignored=ignored)
    backbone = Backbone(
        name=name,
        frames=frames,
        pixels=pixels,
        layer=layer or list(module.stages())[-1],
        cube_shape=cube_shape or (0, 0, 0, 0),
        weights_sha256=digest(module.state_dict()),
        weights_source=source,
        facts=facts,
        module=module.eval(),
    )
    if cube_shape is None:
        (cubes,) = try_network([backbone], lambda clips: [backbone.forward(clips)])
        c, t, h, w = cubes.shape[1:]
        return replace(backbone, cube_shape=(c, t, h, w))
    return backbone


def _built(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network in float32, drawn from `seed`; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = build()
    if not isinstance(net, nn.Module):
        raise ExtractError(f"build must return a torch.nn.Module, but gave {type(net).__name__}")
    return net.float().requires_grad_()


def _give(
    module: WrappedNet,
    weights: str | Mapping[str, Tensor],
    facts: dict[str, Any],
    *,
    name: str,
    advice: str,
    ignored: Sequence[str],
) -> tuple[str, dict[str, Any]]:
    """Load the weights into the network. Returns where they came from, and what they saw."""
    like = module.state_dict()
    if isinstance(weights, str):
        file, state = load_weights(weights, like, backbone=name, advice=advice, ignored=ignored)
        source = str(file.path)
    else:
        file = WeightsFile(Path(f"state dict of '{name}'"), dict(weights))
        source = "a state dict from its loader"
        with advised(advice):
            state = fit_state(file, like, backbone=name, ignored=ignored)
    module.load_state_dict(state)
    return source, dict(file.provenance.get("facts", facts))
