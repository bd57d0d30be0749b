"""One shard on disk, opened: cubes by slot and view, mapped where the file allows it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .packed import Packed, dequantise


class ShardFile:
    """An open shard of `shape` [r, views, c, t, h, w].

    numbers: the whole shard as a read-only memory map, or None where it is compressed; `fill` then writes the numbers
    of (slot, view) into a given array [c, t, h, w], and raises CorruptStoreError when it cannot. scales: of int8
    numbers, [r, views, c], None for float16. load: gives the same shard in memory, where each `fill` is a request to
    object storage.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        numbers: NDArray[Any] | None = None,
        scales: NDArray[np.float16] | None = None,
        fill: Callable[[int, int, NDArray[Any]], None] | None = None,
        load: Callable[[], "ShardFile"] | None = None,
    ) -> None:
        self.shape = shape
        self._numbers, self._scales = numbers, scales
        self._fill, self._load = fill, load

    def __repr__(self) -> str:
        return f"ShardFile({list(self.shape)}, {'decoded' if self._numbers is None else 'mapped'})"

    @property
    def cubes(self) -> NDArray[np.float16] | None:
        """The whole shard as a read-only memory map of float16 [r, views, c, t, h, w], where that can be."""
        return self._numbers if self._scales is None else None

    def read_into(self, slot: int, view: int, out: NDArray[np.float16]) -> None:
        """Write the cube of (slot, view) into `out` [c, t, h, w]."""
        if self._scales is None:
            self._read_numbers(slot, view, out)
            return
        numbers = np.empty(self.shape[2:], np.int8)
        self._read_numbers(slot, view, numbers)
        dequantise(numbers, self._scales[slot, view], out)

    def _read_numbers(self, slot: int, view: int, out: NDArray[Any]) -> None:
        if self._numbers is not None:
            out[...] = self._numbers[slot, view]
        elif self._fill is not None:
            self._fill(slot, view, out)

    def row(self, slot: int) -> Packed:
        """All views of one row as they are stored, [views, c, t, h, w]; perhaps a part of the map."""
        scales = None if self._scales is None else self._scales[slot]
        if self._numbers is not None:
            return Packed(self._numbers[slot], scales)
        numbers = np.empty(self.shape[1:], "<f2" if scales is None else np.int8)
        for view in range(self.shape[1]):
            self._read_numbers(slot, view, numbers[view])
        return Packed(numbers, scales)

    def near(self) -> "ShardFile":
        """The same shard, to read all of it: fetched at once where it is far away."""
        return self if self._load is None else self._load()

    def read(self) -> NDArray[np.float16]:
        """A copy of everything: float16 [r, views, c, t, h, w]."""
        whole = self.near()
        if whole.cubes is not None:
            return whole.cubes.copy()
        out = np.empty(self.shape, "<f2")
        for slot, view in np.ndindex(*self.shape[:2]):
            whole.read_into(slot, view, out[slot, view])
        return out

    def read_packed(self) -> Packed:
        """A copy of everything as it is stored: [r, views, c, t, h, w]."""
        whole = self.near()
        rows = [whole.row(slot) for slot in range(self.shape[0])]
        scales = None if self._scales is None else self._scales.copy()
        return Packed(np.stack([row.numbers for row in rows]), scales)
