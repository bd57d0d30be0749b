"""The contract of a backbone: clips in, feature cubes out, in ordered named stages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExtractError
from ..pixels import PixelRule


class StagedNet(nn.Module):
    """A network cut into ordered named stages; running them in a row is its forward pass."""

    def stages(self) -> dict[str, nn.Module]:
        """Name -> stage, in the order in which they run. The modules are the network's own, so that a stage's
        parameters can be frozen; the dictionary is made anew at each call, so that a deep copy has its own."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Normalised clips [b, 3, t, h, w] -> cubes [b, c, t, h, w] of the last stage."""
        for stage in self.stages().values():
            x = stage(x)
        return x


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A video network with its weights, and all that decides what cubes it makes.

    name: in the table of backbones; frames: frames of a clip; pixels: the pixel rule, with the normalisation;
    layer: the stage whose output is the cube; cube_shape: (c, t, h, w); weights_sha256: digest of the tensors as
    loaded (see `weights.digest`); weights_source: where they came from, in words; facts: what the weights saw and
    their licence (plain JSON values); module: the plain float32 network, trainable, freezable by stage.
    """

    name: str
    frames: int
    pixels: PixelRule
    layer: str
    cube_shape: tuple[int, int, int, int]
    weights_sha256: str
    weights_source: str
    module: StagedNet
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._position(self.layer)

    @property
    def size(self) -> int:
        """Side of a clip in pixels."""
        return self.pixels.size

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all stages, first to last."""
        return tuple(self.module.stages())

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
        return self._run(self.normalise(clips), 0, self._position(layer) + 1)

    def tail(self, x: Tensor, layer: str) -> Tensor:
        """Output of stage `layer` [b, c, t, h, w] -> float32 cubes [b, c, t, h, w]."""
        return self._run(x, self._position(layer) + 1, self._position(self.layer) + 1)

    def forward(self, clips: Tensor) -> Tensor:
        """uint8 clips [b, frames, size, size, 3] -> float32 cubes [b, c, t, h, w] = [b, *cube_shape]."""
        return self.front(clips, self.layer)

    def prepare_for_inference(
        self, precision: str = "fp32", device: torch.device | str = "cpu"
    ) -> Callable[[Tensor], Tensor]:
        """A fast function, uint8 clips [b, frames, size, size, 3] -> float32 cubes [b, *cube_shape] on the CPU.

        It owns a folded copy of the network at `precision` (`fp32`, `bf16`, `fp16`); this backbone stays as it is.
        """
        from .inference import prepare

        return prepare(self, precision=precision, device=device)

    def _position(self, layer: str) -> int:
        names = self.layers
        if layer not in names:
            raise ExtractError(f"layer ('{layer}') of backbone '{self.name}' must be one of {', '.join(names)}")
        return names.index(layer)

    def _run(self, x: Tensor, first: int, end: int) -> Tensor:
        for stage in list(self.module.stages().values())[first:end]:
            x = stage(x)
        return x
