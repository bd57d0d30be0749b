"""The store of feature cubes: one interface over Zarr v3 (`.zarr`) and HDF5 (`.h5`), chosen by the suffix."""

from abc import ABC
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .index import VideoIndex
from .spec import FeatureSpec

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What is fixed when a store is created, and written once as the attributes of its group.

    dataset: name given to --dataset (`hmdb51`); split_scheme: `hmdb51-arn`; flip_keeps_class: whether a mirrored
    video keeps its class in this data set; shard_rows: rows a shard; compress: '' or 'zstd'; batch, threads: clips
    and torch threads per forward, reused by every resume because they change bits; coverage: one dictionary
    {split, class, found, expected} per class of the split scheme (expected is None where nothing is published);
    provenance: versions, source of the weights, the command, stray files, the date: whatever does not change cubes.
    """

    spec: FeatureSpec
    dataset: str
    split_scheme: str
    flip_keeps_class: bool
    shard_rows: int
    compress: str
    batch: int
    threads: int
    coverage: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """The record of one shard, written last: the only truth about which of its rows are done.

    shard: its number; generation: 0, then one more each time rows of it are written again; start, stop: its rows
    [start, stop); states: MISSING, DONE or FAILED per row; reasons: row number -> why it failed; notes: row
    number -> what its user should know ("95 of 100 frames decodable"); sha256: per row, of the row's
    little-endian bytes over all views, '' where the row is not done; device: that computed it.
    """

    shard: int
    generation: int
    start: int
    stop: int
    states: tuple[int, ...]
    reasons: dict[int, str]
    notes: dict[int, str]
    sha256: tuple[str, ...]
    device: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Store(ABC):
    """An open store. Reading is safe while one writer adds shards: a row is there once its record is."""

    path: Path
    header: StoreHeader
    index: VideoIndex

    @property
    def spec(self) -> FeatureSpec:
        return self.header.spec

    @property
    def n_shards(self) -> int:
        return -(-len(self.index) // self.header.shard_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of recipe, split scheme and ordered keys."""
        return self.spec.store(self.header.split_scheme, self.index.keys)

    def shard_range(self, shard: int) -> range:
        """The rows of a shard."""
        start = shard * self.header.shard_rows
        return range(start, min(start + self.header.shard_rows, len(self.index)))
