"""Memory that is used again and again."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def large(shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """An uninitialised tensor for many cubes, in huge pages where the system has them.

    numpy asks for those, torch does not; copying cubes from random places is a sixth faster with them.
    """
    if torch.device(device).type != "cpu":
        return torch.empty(*shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(*shape)


class Buffers:
    """Memory that successive episodes re-use: fresh pages cost as much as filling them."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
        """An uninitialised tensor of this shape, in the memory of the last one of this name if that is enough."""
        count = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < count or held.dtype != dtype or held.device != torch.device(device):
            held = self._held[name] = large((count,), dtype, device)
        return held[:count].view(shape)
