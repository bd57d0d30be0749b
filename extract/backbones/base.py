"""The contract of a backbone: clips in, feature cubes out, in ordered named stages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...cache.console import unknown_name
from ...cache.spec import TIMES
from ..decoding.pixels import PixelRule, check_clip
from ..errors import ExtractError
from .checkpointing import run_again_for_gradients

Shape = tuple[int, int, int, int]


class StagedNet(nn.Module):
    """A network cut into ordered named stages, each of which gives a cube.

    A network that is a chain of modules defines `stages` alone. One that is not (tokens with a class token, say)
    also overrides `outputs`.

    checkpointing: keep no activations of a stage but what enters it, and run it again for its gradients: less memory
    for a third more time.
    """

    checkpointing: bool = False

    @property
    def forgets(self) -> bool:
        """Whether a pass now keeps no activations."""
        return self.checkpointing and torch.is_grad_enabled()

    @property
    def prefix_tokens(self) -> int:
        """Tokens (class, registers) that pass through the stages beside the cube, so that a cube alone is not enough
        to go on from."""
        return 0

    def stages(self) -> dict[str, nn.Module]:
        """Name -> stage, in the order in which they run. The modules are the network's own, so that a stage's
        parameters can be frozen; the dictionary is made anew at each call, so that a deep copy has its own."""
        raise NotImplementedError

    def outputs(self, x: Tensor, layers: Sequence[str], *, after: str | None = None) -> dict[str, Tensor]:
        """The cubes [b, c, t, h, w] of the named stages, in one pass that ends at the last of them.

        x: normalised clips [b, 3, t, h, w], or with `after` the cube of that stage, from which the pass goes on.
        """
        found: dict[str, Tensor] = {after: x} if after is not None and after in layers else {}
        names = list(self.stages())
        first = 0 if after is None else names.index(after) + 1
        last = max(names.index(layer) for layer in layers)
        for name, stage in list(self.stages().items())[first : last + 1]:
            x = run_again_for_gradients(stage, x) if self.forgets else stage(x)
            if name in layers:
                found[name] = x
        return found

    def cube_shape(self, layer: str, frames: int, size: int) -> Shape:
        """(c, t, h, w) of a stage's cube for clips of frames x size x size; here by running one black clip."""
        with torch.no_grad():
            cube = self.outputs(torch.zeros(1, 3, frames, size, size), (layer,))[layer]
        if not isinstance(cube, Tensor) or cube.dim() != 5:
            what = list(cube.shape) if isinstance(cube, Tensor) else type(cube).__name__
            raise ExtractError(f"layer ('{layer}') must give cubes [b, c, t, h, w], but gave {what}; choose another")
        c, t, h, w = cube.shape[1:]
        return c, t, h, w

    def forward(self, x: Tensor) -> Tensor:
        """Normalised clips [b, 3, t, h, w] -> cubes [b, c, t, h, w] of the last stage."""
        last = list(self.stages())[-1]
        return self.outputs(x, (last,))[last]


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A video network with its weights, and all that decides what cubes it makes.

    name: in the table of backbones; frames: frames of a clip; pixels: the pixel rule, with the normalisation;
    layer: the stage whose output is the cube; cube_shape: (c, t, h, w); weights_sha256: digest of the tensors as
    loaded (see `weights.digest`), and of a configuration that lies beside them; weights_source: where they came from,
    in words; facts: what the weights saw and their licence (plain JSON values); module: the plain float32 network,
    trainable, freezable by stage; time: `keep`, or `mean` for cubes averaged over time, [c, 1, h, w]; revision: of
    the hub's repository, '' elsewhere; beside: small files (name -> content) that must lie beside a weights file of
    this network for it to load.
    """

    name: str
    frames: int
    pixels: PixelRule
    layer: str
    cube_shape: Shape
    weights_sha256: str
    weights_source: str
    module: StagedNet
    facts: dict[str, Any] = field(default_factory=dict)
    time: str = "keep"
    revision: str = ""
    beside: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_clip(self.frames, self.size)
        self._check(self.layer)
        if self.time not in TIMES:
            raise ExtractError(unknown_name("time", self.time, TIMES))
        if self.time == "mean" and self.cube_shape[1] != 1:
            raise ExtractError(f"cube_shape {self.cube_shape} must have one step of time with time='mean'")

    @property
    def size(self) -> int:
        """Side of a clip in pixels."""
        return self.pixels.size

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all stages, first to last."""
        return tuple(self.module.stages())

    def at(self, layer: str, *, time: str | None = None) -> Self:
        """The same network and weights with the cubes of another stage, or another treatment of time."""
        self._check(layer)
        time = time or self.time
        c, t, h, w = self.module.cube_shape(layer, self.frames, self.size)
        return replace(self, layer=layer, time=time, cube_shape=(c, 1 if time == "mean" else t, h, w))

    def normalise(self, clips: Tensor) -> Tensor:
        """uint8 RGB [b, frames, size, size, 3] -> float32 [b, 3, t, h, w], channels last in memory."""
        shape = (self.frames, self.size, self.size, 3)
        if clips.dtype != torch.uint8 or tuple(clips.shape[1:]) != shape:
            raise ExtractError(
                f"clips ({clips.dtype} {tuple(clips.shape)}) must be uint8 [b, {', '.join(map(str, shape))}] "
                f"for backbone '{self.name}'"
            )
        mean, std = torch.tensor(self.pixels.mean), torch.tensor(self.pixels.std)  # [3], [3]
        factor = (self.pixels.scale / std).to(clips.device)  # [3]
        shift = ((self.pixels.offset - mean) / std).to(clips.device)  # [3]
        return clips.float().mul_(factor).add_(shift).permute(0, 4, 1, 2, 3)  # [b, 3, t, h, w]

    def front(self, clips: Tensor, layer: str) -> Tensor:
        """uint8 clips [b, frames, size, size, 3] -> float32 output [b, c, t, h, w] of stage `layer`."""
        self._check(layer)
        return self.module.outputs(self.normalise(clips), (layer,))[layer]

    def tail(self, x: Tensor, layer: str) -> Tensor:
        """Output of stage `layer` [b, c, t, h, w] -> float32 cubes [b, *cube_shape].

        ExtractError where a stage's cube is not all that the next one needs (it lacks a network's class token).
        """
        self._check(layer)
        if self.layers.index(layer) > self.layers.index(self.layer):
            raise ExtractError(f"layer ('{layer}') comes after '{self.layer}', whose cubes are asked for")
        if layer != self.layer:
            x = self.module.outputs(x, (self.layer,), after=layer)[self.layer]
        return self.pool(x)

    def pool(self, x: Tensor) -> Tensor:
        """Output of the cube's stage [b, c, t, h, w] -> cubes [b, *cube_shape]: as it is, or the mean over time."""
        return x.mean(dim=2, keepdim=True) if self.time == "mean" else x

    def forward(self, clips: Tensor) -> Tensor:
        """uint8 clips [b, frames, size, size, 3] -> float32 cubes [b, c, t, h, w] = [b, *cube_shape]."""
        return self.pool(self.front(clips, self.layer))

    def prepare_for_inference(
        self, precision: str = "fp32", device: torch.device | str = "cpu"
    ) -> Callable[[Tensor], Tensor]:
        """A fast function, uint8 clips [b, frames, size, size, 3] -> float32 cubes [b, *cube_shape] on the CPU.

        It owns a folded copy of the network at `precision` (`fp32`, `bf16`, `fp16`); this backbone stays as it is.
        For several layers in one pass see `inference.prepare`.
        """
        from .inference import prepare

        run = prepare([self], precision=precision, device=device)
        return lambda clips: run(clips)[0]

    def _check(self, layer: str) -> None:
        if layer not in self.layers:
            raise ExtractError(f"layer ('{layer}') of backbone '{self.name}' must be one of {', '.join(self.layers)}")
