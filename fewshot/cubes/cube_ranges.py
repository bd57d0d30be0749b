"""Cubes read from object storage as they are needed: each a range of its shard's object, several at once."""

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ...cache.packing import value_bytes
from ...cache.store import Store

_CACHE_BYTES = 256 * 2**20  # cubes that are kept; a gather's own are kept in any case
_AT_ONCE = 16
_AHEAD = 2  # gathers announced that may be under way at once


class RangedCubes:
    """Cubes of a store of any size; those announced by `prefetch` are read while others are worked on."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self._store, self._rows = store, rows
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cubes")
        self._most = max(1, _CACHE_BYTES // (value_bytes(store.spec) // len(store.spec.views)))
        # (row, view) -> a future of float16 [c, t, h, w], the one used last at the end
        self._kept: OrderedDict[tuple[int, int], Future[np.ndarray]] = OrderedDict()
        self._shards: set[int] = set()

    def fill(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> None:
        """See CubeSource."""
        for target, future in zip(out, self._ask(positions, views), strict=True):
            target.copy_(torch.from_numpy(future.result()).flatten(1).T)  # [L, c]

    def prefetch(self, positions: np.ndarray, views: np.ndarray) -> None:
        """See CubeSource; beyond a few gathers ahead nothing is read, so that memory stays bounded."""
        under_way = sum(not future.done() for future in self._kept.values())
        if under_way <= (_AHEAD - 1) * len(positions) and (_AHEAD + 1) * len(positions) <= self._most:
            self._ask(positions, views)

    def _ask(self, positions: np.ndarray, views: np.ndarray) -> list[Future[np.ndarray]]:
        rows = self._rows[positions]
        new = set((rows // self._store.header.shard_rows).tolist()) - self._shards
        for shard, _ in zip(new, self._pool.map(self._store.open_shard, new), strict=True):
            self._shards.add(shard)
        asked = []
        for place in zip(rows.tolist(), views.tolist(), strict=True):
            future = self._kept.pop(place, None)
            if future is None or (future.done() and future.exception() is not None):
                future = self._pool.submit(self._read, *place)
            self._kept[place] = future
            asked.append(future)
        while len(self._kept) > max(self._most, len(asked)):
            self._kept.popitem(last=False)
        return asked

    def _read(self, row: int, view: int) -> np.ndarray:
        """The cube of a row and view, float16 [c, t, h, w]."""
        cube = np.empty(self._store.spec.cube_shape, "<f2")
        shard, slot = divmod(row, self._store.header.shard_rows)
        self._store.open_shard(shard).read_into(slot, view, cube)
        return cube
