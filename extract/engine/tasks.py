"""The unit of work, as it is sent to whoever does it: a shard, by value."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...cache.attempts import Attempts
from ...cache.place import StorePath
from ...cache.store import Store
from ..backbones.base import Backbone
from .sink import Sink

Load = Callable[[], Sequence[Backbone]]


@dataclass(frozen=True)
class ShardTask:
    """One shard: rows[i] are the rows of store i that are to be done, rising; paths: of their videos, relative to the
    root; generations: that each store's record of the shard had before, -1 where there was none."""

    shard: int
    rows: tuple[tuple[int, ...], ...]
    paths: Mapping[int, str]
    generations: tuple[int, ...]

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

    run: names this run; root: of the videos; outs, digests: the stores that lack rows, and what they are; load: makes
    the backbones of all layers, and can be pickled; which: of them, one for each store; device: `auto`, `cpu` or
    `cuda:N`; kind: of device that is asked for (`cpu` or `cuda`), '' for any; workers, queue: as given, or None;
    timeout_s, follow_links, stop_on_failure: see Pipeline and Links; sharing: processes on each host, by its name;
    versions: that every process must have; sample: paths of a few videos.
    """

    run: str
    root: Path
    outs: tuple[StorePath, ...]
    digests: tuple[str, ...]
    load: Load
    which: tuple[int, ...]
    device: str
    kind: str
    workers: int | None
    queue: int | None
    timeout_s: float
    follow_links: bool
    stop_on_failure: bool
    sharing: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sample: tuple[str, ...] = ()


class Outstanding:
    """The shards of a run that nobody said are committed. stop_on_failure: see Pipeline."""

    def __init__(self, stores: Sequence[Store], tasks: Iterable[ShardTask], stop_on_failure: bool = False) -> None:
        self._stores, self._stop_on_failure = stores, stop_on_failure
        self._tasks = {task.shard: task for task in tasks}
        self._suspected: dict[int, set[int]] = {}

    def tasks(self) -> list[ShardTask]:
        """Those that are left, in order."""
        return list(self._tasks.values())

    def finished(self, done: ShardDone) -> None:
        """A worker said so."""
        self._tasks.pop(done.shard, None)

    def look(self, shards: Iterable[int]) -> list[ShardDone]:
        """Which of `shards`, whose workers are gone, the stores know as committed all the same."""
        for store in self._stores:
            store.refresh()
        tasks = [self._tasks[shard] for shard in shards if shard in self._tasks]
        left = [what_is_left(self._stores, task, stop_on_failure=self._stop_on_failure) for task in tasks]
        return [found for found in left if isinstance(found, ShardDone)]

    def found_culprits(self, shards: Iterable[int]) -> bool:
        """Whether a worker on one of `shards`, done one by one, got to a row that none was lost at when last asked.

        Only where it did another row before: workers that die at whatever they begin with say nothing of the videos.
        """
        marks, found = Attempts(self._stores[0].path), False
        for shard in shards:
            if shard in self._tasks:
                rows = marks.suspected(shard)
                good = set(self._tasks[shard].every) - rows
                new = rows - self._suspected.get(shard, set())
                found |= bool(new and good) and min(good) < max(new)
                self._suspected[shard] = rows
        return found


def what_is_left(stores: Sequence[Store], task: ShardTask, *, stop_on_failure: bool) -> ShardTask | ShardDone:
    """The part of a task that no record of `stores`, just read, has; ShardDone when there is none.

    A worker may die right after its last record, before it could say so, or between the records of two stores.
    """
    still = [_generation(store, task.shard) == old for store, old in zip(stores, task.generations, strict=True)]
    rows = tuple(of_store if open_ else () for of_store, open_ in zip(task.rows, still, strict=True))
    if any(rows):
        return replace(task, rows=rows)
    records = [store.record(task.shard) for store in stores]
    failed = {row for record in records if record is not None for row in record.reasons}.intersection(task.every)
    stopped_at = min(failed) if failed and stop_on_failure else None
    return ShardDone(task.shard, len(task.every), len(failed), {}, 0, stopped_at)


def _generation(store: Sink, shard: int) -> int:
    record = store.record(shard)
    return -1 if record is None else record.generation


def make_tasks(stores: Sequence[Sink], rows: Sequence[Sequence[int]], paths: Sequence[str]) -> Iterator[ShardTask]:
    """The shards that `rows` (of each store) are in, in order. paths: of every video of the data set."""
    shard_rows = stores[0].header.shard_rows
    by_shard: dict[int, list[list[int]]] = {}
    for number, of_store in enumerate(rows):
        for row in of_store:
            by_shard.setdefault(row // shard_rows, [[] for _ in stores])[number].append(row)
    for shard, of_shard in sorted(by_shard.items()):
        yield ShardTask(
            shard=shard,
            rows=tuple(tuple(sorted(set(found))) for found in of_shard),
            paths={row: paths[row] for row in set().union(*of_shard)},
            generations=tuple(_generation(store, shard) for store in stores),
        )
