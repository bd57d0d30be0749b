"""Convolutions over the videos or pairs of batched episodes, normalised episode by episode."""

from typing import Literal

from torch import Tensor, nn

from .meta_learner import EpisodeNorm, Statistics


class ConvNorm(nn.Module):
    """relu(norm(conv(x))) with kernels of one size in each of 2 or 3 axes, which keep their lengths.

    Statistics of the normalisation are each episode's own in training. Initial weights N(0, 2 / (kernel * outputs)),
    biases 0. State: conv.{weight, bias}, norm.*.
    """

    def __init__(self, inputs: int, outputs: int, *, kernel: int, axes: Literal[2, 3]) -> None:
        super().__init__()
        self.conv = (nn.Conv3d if axes == 3 else nn.Conv2d)(inputs, outputs, kernel, padding=kernel // 2)
        nn.init.normal_(self.conv.weight, std=(2 / (kernel**axes * outputs)) ** 0.5)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
        self.norm = EpisodeNorm(outputs)

    def forward(self, values: Tensor) -> Tensor:
        """values [b, m, inputs, *sizes] -> [b, m, outputs, *sizes]; in training it moves the running statistics."""
        b, m = values.shape[:2]
        found = self.conv(values.flatten(0, 1)).unflatten(0, (b, m))  # [b, m, outputs, *sizes]
        record: list[Statistics] | None = [] if self.training else None
        normal = self.norm(found.movedim(2, -1), record).movedim(-1, 2)
        if record:
            self.norm.update(record)
        return normal.relu()
