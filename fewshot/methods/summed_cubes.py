"""Products of mean cubes with vectors, video by video: no mean cube is ever made."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..bags import sum_rows
from ..bank import FeatureBank
from ..buffers import Buffers
from .pair_groups import group_pairs

_ROWS = 16  # videos of one product
_HELD = 32  # videos that stay for all products


class SummedCubes:
    """Sets of videos, int64 [m, shot]; a set stands for the mean X of its videos' cubes, [L, c], from view 0.

    Sums over the shots are taken after the products, so that a video's cube serves all sets that it is in. Some cubes
    stay in memory, others are read for each product. They and what the methods need lie in `buffers`, until another
    object takes the same.
    """

    def __init__(self, bank: FeatureBank, sets: np.ndarray, buffers: Buffers) -> None:
        c, *sizes = bank.store.spec.cube_shape
        self.c, self.size, self.shot = c, int(np.prod(sizes)), sets.shape[1]
        self.device, self.dtype, self._bank, self._buffers = bank.device, bank.product_dtype, bank, buffers
        places = np.empty(
            sets.size + 1, dtype=np.int64
        )  # where a set's videos are among rows of products; padding last
        self._groups: list[tuple[np.ndarray, Tensor, slice]] = []  # videos [v], sets [v * n], rows of products
        start = 0
        for videos, members in group_pairs(sets.ravel(), rows=_ROWS, most=sets.size):
            part = slice(start, start + members.size)
            places[members.ravel()] = np.arange(part.start, part.stop)
            chosen = np.minimum(members, sets.size - 1).ravel() // self.shot  # [v * n]
            self._groups.append((videos, self._tensor(chosen), part))
            start = part.stop
        self._rows = start
        self._places = self._tensor(places[:-1].reshape(sets.shape))  # [m, shot]
        self._held = [
            self._gather(f"held {n}", videos) for n, (videos, _, _) in enumerate(self._groups[: _HELD // _ROWS])
        ]

    def _cubes(self) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Cubes [v, L, c], sets [v * n] and rows of products of each group."""
        for number, (videos, sets, part) in enumerate(self._groups):
            held = number < len(self._held)
            yield self._held[number] if held else self._gather("cubes", videos), sets, part

    def _gather(self, name: str, videos: np.ndarray) -> Tensor:
        """Cubes [v, L, c]."""
        cubes = self._buffers.take(name, (len(videos), self.size, self.c), self.dtype, self.device)
        return self._bank.gather(videos, np.zeros_like(videos), cubes)

    def along(self, vectors: Tensor, chosen: np.ndarray) -> Tensor:
        """X vectors[chosen[i, k]] for set i: float32 [m, k, L]; vectors [r, c], chosen int64 [m, k]."""
        wanted, k = self._tensor(chosen), chosen.shape[1]
        found = self._buffers.take("along", (self._rows, k * self.size), torch.float32, self.device)
        for cubes, sets, part in self._cubes():
            v = len(cubes)
            picked = vectors.index_select(0, wanted[sets].flatten()).view(v, -1, self.c)  # [v, n * k, c]
            # In this order the larger matrix comes first, and few vectors cost half as much.
            products = (cubes @ picked.transpose(1, 2)).transpose(1, 2)  # [v, n * k, L]
            found[part].view(v, -1, self.size).copy_(products)
        return sum_rows(found, self._places).view(-1, k, self.size) / self.shot

    def sum(self, weights: Tensor) -> Tensor:
        """weights[i] X for set i: [m, k, c], in the cubes' type; weights [m, k, L]."""
        k, weights = weights.shape[1], (weights / self.shot).to(self.dtype).flatten(1)
        found = self._buffers.take("sum", (self._rows, k * self.c), self.dtype, self.device)
        for cubes, sets, part in self._cubes():
            v = len(cubes)
            picked = weights.index_select(0, sets).view(v, -1, self.size)  # [v, n * k, L]
            torch.bmm(picked, cubes, out=found[part].view(v, -1, self.c))
        return sum_rows(found, self._places).view(-1, k, self.c)

    def squares(self) -> Tensor:
        """Squared norms of the positions of each set's one video, float32 [m, L]."""
        found = torch.empty(self._rows, self.size, device=self.device)
        for cubes, _, part in self._cubes():
            norms = torch.linalg.vector_norm(cubes, dim=-1, dtype=torch.float32)  # [v, L]
            found[part].view(len(cubes), -1, self.size).copy_(norms.square().unsqueeze(1))
        return found.index_select(0, self._places[:, 0])

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.device)
