"""Memory that is used again and again."""

import math

import torch
from torch import Tensor


class Buffers:
    """Memory that successive episodes re-use: fresh pages cost as much as filling them."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """An uninitialised tensor of this shape, in the memory of the last one of this name if that is enough."""
        count = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < count or held.dtype != dtype or held.device != torch.device(device):
            held = self._held[name] = torch.empty(count, dtype=dtype, device=device)
        return held[:count].view(shape)
