"""One shard on disk, opened: cubes by slot and view, mapped where the file allows it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


class ShardFile:
    """An open shard of `shape` [r, views, c, t, h, w].

    cubes: the whole shard as a read-only memory map, or None where it is compressed; `fill` then writes the cube
    of (slot, view) into a given array [c, t, h, w], and raises CorruptStoreError when it cannot. load: gives the same
    shard in memory, where each `fill` is a request to object storage.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        cubes: NDArray[np.float16] | None = None,
        fill: Callable[[int, int, NDArray[np.float16]], None] | None = None,
        load: Callable[[], "ShardFile"] | None = None,
    ) -> None:
        self.shape = shape
        self.cubes = cubes
        self._fill, self._load = fill, load

    def __repr__(self) -> str:
        return f"ShardFile({list(self.shape)}, {'mapped' if self.cubes is not None else 'decoded'})"

    def read_into(self, slot: int, view: int, out: NDArray[np.float16]) -> None:
        """Write the cube of (slot, view) into `out` [c, t, h, w]."""
        if self.cubes is not None:
            out[...] = self.cubes[slot, view]
        elif self._fill is not None:
            self._fill(slot, view, out)

    def row(self, slot: int) -> NDArray[np.float16]:
        """All views of one row: float16 [views, c, t, h, w], perhaps a part of the map."""
        if self.cubes is not None:
            return self.cubes[slot]
        row = np.empty(self.shape[1:], "<f2")
        for view in range(self.shape[1]):
            self.read_into(slot, view, row[view])
        return row

    def near(self) -> "ShardFile":
        """The same shard, to read all of it: fetched at once where it is far away."""
        return self if self._load is None else self._load()

    def read(self) -> NDArray[np.float16]:
        """A copy of everything: float16 [r, views, c, t, h, w]."""
        if self._load is not None:
            return self._load().read()
        if self.cubes is not None:
            return self.cubes.copy()
        return np.stack([self.row(slot) for slot in range(self.shape[0])])
