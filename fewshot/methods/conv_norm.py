"""Convolutions over the videos or pairs of batched episodes, normalised episode by episode."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .meta_learner import EpisodeNorm


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
        if not self.training:
            return self._fixed(values.flatten(0, 1)).relu_().unflatten(0, (b, m))
        found = self.conv(values.flatten(0, 1)).unflatten(0, (b, m))  # [b, m, outputs, *sizes]
        # An episode's channels are channels of its own to torch's normalisation, which at momentum 1 tells the
        # statistics of this call.
        beside = found.transpose(0, 1).flatten(1, 2)  # [m, b*outputs, *sizes]
        mean, variance = (torch.zeros_like(self.norm.weight).repeat(b) for _ in range(2))
        weight, bias = self.norm.weight.repeat(b), self.norm.bias.repeat(b)
        keywords = {"training": True, "momentum": 1.0, "eps": self.norm.eps}
        normal = F.batch_norm(beside, mean, variance, weight, bias, **keywords)
        self.norm.update([(mean.view(b, -1), variance.view(b, -1))])
        return normal.unflatten(1, (b, -1)).transpose(0, 1).relu()

    def _fixed(self, values: Tensor) -> Tensor:
        """The normalisation's running statistics as part of the convolution: values [n, inputs, *sizes] -> [n, outputs,
        *sizes]."""
        norm, conv = self.norm, self.conv
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # [outputs]
        weight = conv.weight * scale.view(-1, *(1,) * (conv.weight.dim() - 1))
        bias = norm.bias - norm.running_mean * scale
        if conv.bias is not None:
            bias = bias + conv.bias * scale
        apply = F.conv3d if isinstance(conv, nn.Conv3d) else F.conv2d
        return apply(values, weight, bias, padding=conv.kernel_size[0] // 2)
