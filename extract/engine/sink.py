"""Where the pipeline puts cubes: a store, or something that only looks at them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...cache.index import VideoIndex
from ...cache.packed import Packed
from ...cache.record import ShardRecord, StoreHeader
from ...cache.spec import FeatureSpec

# Called with the rows of a shard, their cubes [r, views, c, t, h, w], states, and reasons by row.
Keep = Callable[[range, Packed, Sequence[int], Mapping[int, str]], None]


class Sink(Protocol):
    """What the pipeline asks of a `Store`, whose methods these are."""

    @property
    def header(self) -> StoreHeader: ...
    @property
    def index(self) -> VideoIndex: ...
    @property
    def spec(self) -> FeatureSpec: ...
    def shard_range(self, shard: int) -> range: ...
    def record(self, shard: int) -> ShardRecord | None: ...
    def read_packed(self, shard: int) -> Packed: ...
    def write_shard(
        self,
        shard: int,
        cubes: NDArray[Any],
        *,
        scales: NDArray[np.float16] | None,
        states: Sequence[int] | NDArray[np.integer],
        reasons: Mapping[int, str],
        notes: Mapping[int, str],
        device: str,
        seen: Mapping[int, str],
    ) -> Any: ...


class Rehearsal:
    """A sink in which no row is done yet, and that writes nothing: each shard is shown to `keep`."""

    def __init__(self, header: StoreHeader, index: VideoIndex, keep: Keep) -> None:
        self.header, self.index, self.spec = header, index, header.spec
        self._keep = keep

    def shard_range(self, shard: int) -> range:
        start = shard * self.header.shard_rows
        return range(start, min(start + self.header.shard_rows, len(self.index)))

    def record(self, shard: int) -> None:
        return None

    def read_packed(self, shard: int) -> Packed:
        """Zeros [r, views, c, t, h, w]: no row is done."""
        return Packed.zeros(len(self.shard_range(shard)), self.spec)

    def write_shard(
        self,
        shard: int,
        cubes: NDArray[Any],
        *,
        scales: NDArray[np.float16] | None,
        states: Sequence[int] | NDArray[np.integer],
        reasons: Mapping[int, str],
        notes: Mapping[int, str],
        device: str,
        seen: Mapping[int, str],
    ) -> None:
        """Show cubes [r, views, c, t, h, w], scales [r, views, c] and the rest to `keep`."""
        self._keep(self.shard_range(shard), Packed(cubes, scales), [int(state) for state in states], reasons)
