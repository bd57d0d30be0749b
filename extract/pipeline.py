"""Shards in this process: decoders -> bounded queue -> batches -> device -> one writer, all at the same time.

    decoder threads   clip clip clip clip clip      each drives an ffmpeg process; at most `in_flight` clips ahead
    this thread          [batch 0] [batch 1] ...    forward passes; a batch never crosses a shard
    writer thread                  [shard 0]        checksums, file, record; one shard being written, none waiting

Memory: the decoded clips in flight, one batch of clips with its activations, and two shards of each store. None of it
grows with the data set.
"""

from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..cache.store import Store
from .backbones.base import Backbone
from .decode import Clip, decode_clip
from .decode_ahead import DecodeAhead, Decoded
from .devices import device_name
from .one_by_one import fill_one_by_one
from .shard_work import Forward, ShardWork
from .tasks import ShardDone, ShardTask
from .timer import Timer, bound_of
from .tuning import Tuner
from .workers import default_workers

Tell = Callable[[int, int, str], None]  # videos just tried, how many of them failed, what bounds the run
Allowed = Callable[[int], None]  # raises unless the shard of this number may still be worked on


class Pipeline:
    """A network on a device, and the stores that its cubes go to: one for each of `backbones`, its layers.

    root: of the videos; workers, queue: decoders and clips ahead, chosen by measuring where they are None; most:
    decoders that may be chosen; allowed: asked before each batch, and before a shard is written.
    """

    def __init__(
        self,
        stores: Sequence[Store],
        backbones: Sequence[Backbone],
        *,
        root: Path,
        device: torch.device,
        workers: int | None,
        queue: int | None,
        most: int | None = None,
        allowed: Allowed = lambda shard: None,
    ) -> None:
        self._stores, self._root, self._device = stores, root, device_name(device)
        self._allowed = allowed
        self._header, spec = stores[0].header, stores[0].spec
        self._sampling, self._network = spec.sampling, backbones[0]
        self._forward = Forward(backbones, views=spec.views, precision=spec.precision, device=device)
        clip_bytes = int(np.prod(self._forward.clip_shape))
        most = most or default_workers()
        self._tuner = Tuner(workers=workers, queue=queue, most=most, batch=self._header.batch, clip_bytes=clip_bytes)

    def run(self, tasks: Sequence[ShardTask], *, tell: Tell) -> Generator[ShardDone]:
        """Do the shards, in order; each is yielded once it is committed.

        With the iterator closed early, or an error, the shard that is being written is finished, and no ffmpeg stays.
        """
        timer, reported = Timer(), Timer()
        with ThreadPoolExecutor(1, "writer") as executor, closing(self._decode(tasks)) as clips:
            writing: Future[ShardDone] | None = None
            for task in tasks:
                works = self._fill(task, clips, timer, tell)
                if writing is not None:
                    yield self._finished(writing, timer, reported)
                writing = executor.submit(self._commit, task, works, timer)
            if writing is not None:
                yield self._finished(writing, timer, reported)

    def one_by_one(self, task: ShardTask, *, begin: Callable[[int], None], blamed: Collection[int]) -> ShardDone:
        """Do a shard video by video, to the same bits; see `fill_one_by_one`."""
        timer, works = Timer(), self._works(task)
        start = task.shard * self._header.shard_rows
        with timer.measure("forward"):
            fill_one_by_one(
                task,
                works,
                decode=lambda row: self._load(task.paths[row], row),
                forward=self._forward,
                batch=self._header.batch,
                start=start,
                begin=begin,
                blamed=blamed,
            )
        return replace(self._commit(task, works, timer), seconds=timer.seconds, decoders=1)

    def _works(self, task: ShardTask) -> list[ShardWork]:
        return [ShardWork(store, task.shard, rows) for store, rows in zip(self._stores, task.rows, strict=True)]

    def _load(self, path: str, row: int) -> Clip:
        network, key = self._network, self._stores[0].index.keys[row]
        return decode_clip(
            self._root / path, frames=network.frames, rule=network.pixels, sampling=self._sampling, key=key
        )

    def _decode(self, tasks: Sequence[ShardTask]) -> DecodeAhead:
        paths = {row: path for task in tasks for row, path in task.paths.items()}
        ahead = self._tuner.ahead
        return DecodeAhead(
            [row for task in tasks for row in task.every],
            lambda row: self._load(paths[row], row),
            threads=self._tuner.threads,
            workers=ahead.workers,
            in_flight=ahead.in_flight,
        )

    def _finished(self, writing: Future[ShardDone], timer: Timer, reported: Timer) -> ShardDone:
        """The shard that was given to the writer, with the seconds since the one before."""
        with timer.measure("write_wait"):
            done = writing.result()
        since = {stage: timer.seconds[stage] - reported.seconds[stage] for stage in timer.seconds}
        reported.add(since)
        return replace(done, seconds=since)

    def _fill(self, task: ShardTask, clips: DecodeAhead, timer: Timer, tell: Tell) -> list[ShardWork]:
        """The shard of each store that lacks rows of it, filled.

        Slots are fixed: a row's place in its batch is its place in the shard, the others are fed zeros, and the last
        batch is padded to the full size. So a row's bits do not depend on which rows are done with it.
        """
        works = self._works(task)
        rows, batch = task.every, self._header.batch
        start = task.shard * self._header.shard_rows
        for first in sorted({row - (row - start) % batch for row in rows}):
            of_batch = [row for row in rows if first <= row < first + batch]
            pixels = np.zeros((batch, *self._forward.clip_shape), np.uint8)  # [b, frames, size, size, 3]
            usable: list[int] = []
            notes: dict[int, str] = {}
            for row in of_batch:
                decoded = self._next(clips, timer)
                if decoded.clip is None:
                    for work in works:
                        work.fail(row, decoded.reason)
                    continue
                pixels[row - first] = decoded.clip.pixels
                if decoded.clip.note:
                    notes[row] = decoded.clip.note
                usable.append(row)
            self._allowed(task.shard)
            if usable:
                before = timer.seconds["forward"]
                with timer.measure("forward"):
                    cubes = self._forward(pixels)  # of [b, views, c, t, h, w]
                self._tune(clips, timer.seconds["forward"] - before)
                slots = [row - first for row in usable]
                for work, of_layer in zip(works, cubes, strict=True):
                    work.put(usable, of_layer[slots], notes)
            failed = set[int]().union(*(work.failed for work in works)).intersection(of_batch)
            tell(len(of_batch), len(failed), bound_of(timer.seconds))
        return works

    def _next(self, clips: DecodeAhead, timer: Timer) -> Decoded:
        with timer.measure("wait"):
            decoded = next(clips)
        timer.seconds["decode"] += decoded.seconds
        self._tuner.decoded(decoded.seconds)
        return decoded

    def _tune(self, clips: DecodeAhead, seconds: float) -> None:
        if self._tuner.passed(self._header.batch, seconds):
            clips.resize(workers=self._tuner.ahead.workers, in_flight=self._tuner.ahead.in_flight)

    def _commit(self, task: ShardTask, works: Sequence[ShardWork], timer: Timer) -> ShardDone:
        """Write the shards; in the writer's thread."""
        self._allowed(task.shard)
        with timer.measure("write"):
            for work in works:
                if work.rows:  # this shard of this store may have been finished before
                    work.write(device=self._device)
        failed = set[int]().union(*(work.failed for work in works))
        return ShardDone(task.shard, len(task.every), len(failed), {}, self._tuner.ahead.workers)
