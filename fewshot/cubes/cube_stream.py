"""Cubes read from a store as they are needed, through tensorstore, in bounded memory."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...cache.extras import require_extra
from ...cache.packed import Packed
from ...cache.store import Store

_CACHE_BYTES = 256 * 2**20  # decoded cubes that tensorstore keeps
_AHEAD = 2  # announced gathers that may be under way at once


class StreamedCubes:
    """Cubes of a .zarr store of any size; those announced by `prefetch` are read while others are worked on."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self._store, self._rows = store, rows
        self._arrays = _open(store)
        self._checked: set[int] = set()
        self._coming: deque[tuple[bytes, _Reading]] = deque()

    def fill(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> None:
        """See CubeSource."""
        name = _name(positions, views)
        while self._coming and self._coming[0][0] != name:
            self._coming.popleft()[1].result()  # announced, and not asked for
        read = self._coming.popleft()[1] if self._coming else self._read(positions, views)
        cubes = torch.from_numpy(read.result())  # [m, c, t, h, w]
        out.copy_(cubes.flatten(2).transpose(1, 2))  # [m, L, c]

    def prefetch(self, positions: np.ndarray, views: np.ndarray) -> None:
        """See CubeSource; beyond a few gathers ahead nothing is read, so that memory stays bounded."""
        if len(self._coming) < _AHEAD:
            self._coming.append((_name(positions, views), self._read(positions, views)))

    def _read(self, positions: np.ndarray, views: np.ndarray) -> "_Reading":
        """What will be float16 [m, c, t, h, w]."""
        rows = self._rows[positions]
        for shard in np.unique(rows // self._store.header.shard_rows).tolist():
            if shard not in self._checked:
                # The store refuses shard files that are links, cut off, or damaged; tensorstore would follow them.
                self._store.open_shard(shard)
                self._store.release(shard)
                self._checked.add(shard)
        return _Reading([array.vindex[rows, views].read() for array in self._arrays])


class _Reading:
    """Cubes under way. parts: futures of their numbers [m, c, t, h, w] and, of int8, scales [m, c]."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts

    def result(self) -> np.ndarray:
        """Float16 [m, c, t, h, w], once it is there."""
        return Packed(*(part.result() for part in self._parts)).values()


def _open(store: Store) -> list[Any]:
    """The array `cubes` of a store on a disk, [n, views, c, t, h, w], as tensorstore sees it; and `scales` of int8."""
    require_extra("tensorstore", extra="stream", wanted_by="--bank stream")
    import tensorstore

    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
    arrays = []
    for name in ("cubes",) if store.spec.dtype == "float16" else ("cubes", "scales"):
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{Path(str(store.path)).absolute() / name}/"},
            "recheck_cached_data": False,
            "recheck_cached_metadata": False,
        }
        arrays.append(tensorstore.open(spec, read=True, open=True, context=context).result())
    return arrays


def _name(positions: np.ndarray, views: np.ndarray) -> bytes:
    return positions.tobytes() + views.tobytes()
