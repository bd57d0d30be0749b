"""Where a bank's cubes come from: memory, or maps of the store's files.

A source gives cubes positions first, [L, c], because the product of a relation map runs along a row then; in the
store they lie [c, t, h, w]. Copies are few and large: torch's threads wait for each other at the end of each, and with
other work on the cores that costs a time slice of the scheduler.
"""

import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...cache.plain_files import most_maps
from ...cache.reading_ahead import shards_in_order
from ...cache.store import Store
from ..buffers import Buffers, large


class CubeSource(Protocol):
    """Cubes by video position and stored view."""

    def fill(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> None:
        """Write view views[i] of video positions[i] into out[i], for out [m, L, c] of the bank's type."""
        ...

    def prefetch(self, positions: np.ndarray, views: np.ndarray) -> None:
        """Say that `fill` will be called with exactly these positions and views."""
        ...


class HeldCubes:
    """All cubes in the memory of a device, 16 bits a number: cubes [n * views, L, c].

    finite: bool [n], False for a video whose cubes hold NaN or Inf.
    """

    def __init__(
        self, store: Store, rows: np.ndarray, views: Sequence[int], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        c, t, h, w = store.spec.cube_shape
        self._slot = np.zeros(len(store.spec.views), dtype=np.int64)
        self._slot[list(views)] = np.arange(len(views))
        self._views = len(views)
        self.finite = np.ones(len(rows), dtype=bool)
        held = large((len(rows), len(views), t * h * w, c), dtype, device)  # [n, views, L, c]
        for part, cubes in _runs(store, rows):
            for slot, view in enumerate(views):
                flat = cubes[:, view].flatten(2)  # [r, c, L]
                # float16 values cannot overflow a float32 sum, so the sum is finite exactly when all of them are.
                self.finite[part] &= torch.isfinite(flat.sum((1, 2), dtype=torch.float32)).numpy()
                held[part, slot].copy_(flat.to(device).transpose(1, 2))  # [r, L, c]
        self.cubes = held.flatten(0, 1)  # [n * views, L, c]

    def fill(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> None:
        """See CubeSource; here `out` may have any float type and device."""
        places = self._places(positions, views)
        if out.dtype == self.cubes.dtype or self.cubes.device.type != "cpu":
            if out.dtype == self.cubes.dtype:
                torch.index_select(self.cubes, 0, places, out=out)
            else:
                out.copy_(self.cubes[places])
            return
        for target, place in zip(out, places.tolist(), strict=True):
            target.copy_(self.cubes[place])  # one cube at a time stays in the cache of a core while it is widened

    def fill_means(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> None:
        """Write the mean of the cubes of positions and views, int64 [m, shot], into out [m, L, c]."""
        m, shot = positions.shape
        places = self._places(positions.ravel(), views.ravel())  # [m * shot]
        if out.dtype == self.cubes.dtype or self.cubes.device.type != "cpu":
            torch.mul(_bags(places.view(m, shot), self.cubes), 1 / shot, out=out)
            return
        wide = torch.empty_like(out[0])  # [L, c]
        for target, (first, *others) in zip(out, places.view(m, shot).tolist(), strict=True):
            target.copy_(self.cubes[first])
            for count, place in enumerate(others, 2):
                target.lerp_(wide.copy_(self.cubes[place]), 1 / count)  # the mean so far: no pass of its own divides

    def prefetch(self, positions: np.ndarray, views: np.ndarray) -> None:
        """Nothing to do: they are here."""

    def _places(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        return torch.from_numpy(positions * self._views + self._slot[views]).to(self.cubes.device)


class MappedCubes:
    """Cubes in the store's own shard files, memory-mapped: the page cache holds what is used."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self._store, self._rows, self._buffers = store, rows, Buffers()
        self._maps: dict[int, np.ndarray] = {}  # shard -> float16 [r, views, c, t, h, w]

    def fill(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> None:
        """See CubeSource."""
        m, size, c = out.shape
        flat = self._buffers.take("flat", (m, c, size), torch.float16)
        target = flat.numpy()  # [m, c, L]
        shards, slots = np.divmod(self._rows[positions], self._store.header.shard_rows)
        places = zip(shards.tolist(), slots.tolist(), views.tolist(), strict=True)
        for i, (shard, slot, view) in enumerate(places):
            target[i] = self._map(shard)[slot, view].reshape(c, size)  # [c, L]
        out.copy_(flat.transpose(1, 2))  # [m, L, c]

    def prefetch(self, positions: np.ndarray, views: np.ndarray) -> None:
        """Nothing to do: the system reads ahead."""

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            if len(self._maps) >= most_maps(4):
                del self._maps[next(iter(self._maps))]
            found = self._store.mapped(shard)
            # A compressed store has no maps, and int8 none of float16; `choose_residence` refuses it before.
            self._maps[shard] = self._store.read_shard(shard) if found is None else found
        return self._maps[shard]


def _bags(places: Tensor, cubes: Tensor) -> Tensor:
    """Sums over each row of places [m, shot] of cubes [n, L, c], accumulated in float32: [m, L, c]."""
    if cubes.device.type == "cpu":
        flat = torch.nn.functional.embedding_bag(places, cubes.flatten(1), mode="sum")  # [m, L*c]
        return flat.unflatten(1, cubes.shape[1:])
    return cubes[places].sum(1, dtype=torch.float32)


def _runs(store: Store, rows: np.ndarray) -> Iterator[tuple[slice, Tensor]]:
    """For rows int64 [n], rising: (slice of 0 .. n-1, its cubes [r, views, c, t, h, w]), a part of one shard each."""
    shards = rows // store.header.shard_rows
    ends = np.flatnonzero((np.diff(rows) != 1) | (np.diff(shards) != 0)) + 1
    bounds = [0, *ends.tolist(), len(rows)] if len(rows) else []
    coming = shards_in_order(store, np.unique(shards).tolist())
    shard, whole = -1, np.empty(0, np.float16)
    for start, stop in pairwise(bounds):
        if shards[start] != shard:
            del whole  # not two at once
            shard, whole = int(shards[start]), next(coming)
        first = int(rows[start]) - shard * store.header.shard_rows
        with warnings.catch_warnings():
            # torch has no read-only tensors and warns of a read-only map; nothing here writes to it.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            cubes = torch.from_numpy(whole[first : first + stop - start])
        yield slice(start, stop), cubes
        del cubes
