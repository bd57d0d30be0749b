"""The unit of work, as it is sent to whoever does it: a shard, by value."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache.place import StorePath
from ..cache.store import Store
from .backbones.base import Backbone


@dataclass(frozen=True)
class ShardTask:
    """One shard: rows[i] are the rows of store i that are to be done, rising; paths: of their videos, relative to the
    root."""

    shard: int
    rows: tuple[tuple[int, ...], ...]
    paths: Mapping[int, str]

    @property
    def every(self) -> list[int]:
        """Rows that some store lacks, rising."""
        return sorted(set().union(*self.rows))


@dataclass(frozen=True)
class ShardDone:
    """A shard is committed. tried: videos; failed: of them; seconds: by stage, of what was measured since the last
    shard of the same process; decoders: threads at work; stopped_at: the failed row that ended the run, if one did."""

    shard: int
    tried: int
    failed: int
    seconds: Mapping[str, float]
    decoders: int
    stopped_at: int | None = None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process on this or another machine needs for any shard of a run.

    root: of the videos; outs: a store for each layer; load: makes the backbones, one for each store, and can be
    pickled; device: `auto`, `cpu` or `cuda:N`; workers, queue: as given, or None; run: names this run.
    """

    root: Path
    outs: tuple[StorePath, ...]
    load: Callable[[], Sequence[Backbone]]
    device: str
    workers: int | None
    queue: int | None
    run: str


def make_tasks(stores: Sequence[Store], rows: Sequence[Sequence[int]], paths: Sequence[str]) -> Iterator[ShardTask]:
    """The shards that `rows` (of each store) are in, in order. paths: of every video of the data set."""
    shard_rows = stores[0].header.shard_rows
    by_shard: dict[int, list[list[int]]] = {}
    for number, of_store in enumerate(rows):
        for row in of_store:
            by_shard.setdefault(row // shard_rows, [[] for _ in stores])[number].append(row)
    for shard, of_shard in sorted(by_shard.items()):
        every = set().union(*of_shard)
        yield ShardTask(shard, tuple(tuple(sorted(set(found))) for found in of_shard), {r: paths[r] for r in every})
