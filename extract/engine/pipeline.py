"""Shards in this process: decoders -> bounded queue -> batches -> device -> one writer, all at the same time.

    decoder threads   clip clip clip clip clip      each drives an ffmpeg process; at most `in_flight` clips ahead
    this thread          [batch 0] [batch 1] ...    forward passes; a batch never crosses a shard
    writer thread                  [shard 0]        checksums, file, record; one shard being written, none waiting

Memory: the decoded clips in flight, one batch of clips with its activations, and two shards of each store. None of it
grows with the data set.
"""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..backbones.base import Backbone
from ..datasets.links import Links
from ..decoding.decode import TIMEOUT_S, Clip, decode_clip
from ..decoding.decode_ahead import DecodeAhead
from ..decoding.fingerprint import fingerprint
from ..machines.devices import device_name
from .one_by_one import fill_one_by_one
from .shard_work import Forward, ShardWork
from .sink import Sink
from .tasks import ShardDone, ShardTask
from .timer import Timer, bound_of
from .tuning import Tuner
from .workers import most_decoders

Tell = Callable[[int, int, str], None]  # videos just tried, how many of them failed, what bounds the run
Allowed = Callable[[int], None]  # raises unless the shard of this number may still be worked on


class Taken(NamedTuple):
    """What is kept of a clip once its pixels are in their batch: a note on the video, and its state."""

    note: str
    seen: str


class Pipeline:
    """A network on a device, and the stores that its cubes go to: one for each of `backbones`, its layers.

    root: of the videos; workers, queue: decoders and clips ahead, chosen by measuring where they are None; links: where
    links among the videos may lead; timeout_s: for decoding one video; stop_on_failure: end behind the first video that
    fails; most: decoders that may be chosen; allowed: asked before each batch, and before a shard is written; exact:
    see `inference.prepare`.
    """

    def __init__(
        self,
        stores: Sequence[Sink],
        backbones: Sequence[Backbone],
        *,
        root: Path,
        device: torch.device,
        workers: int | None,
        queue: int | None,
        links: Links,
        timeout_s: float = TIMEOUT_S,
        stop_on_failure: bool = False,
        most: int | None = None,
        allowed: Allowed = lambda shard: None,
        exact: Sequence[torch.Tensor] | None = None,
    ) -> None:
        self._stores, self._root, self._device = stores, root, device_name(device)
        self._timeout_s, self._links, self._stop_on_failure = timeout_s, links, stop_on_failure
        self._allowed = allowed
        self._header, spec = stores[0].header, stores[0].spec
        self._sampling, self._views, self._network = spec.sampling, spec.views, backbones[0]
        network = self._network
        self._clip_shape = (len(spec.views), network.frames, network.size, network.size, 3)
        self._forward: Forward | None = None
        self._make_forward = partial(Forward, backbones, precision=spec.precision, device=device, exact=exact)
        clip_bytes = int(np.prod(self._clip_shape))
        most = most or most_decoders()
        self._tuner = Tuner(workers=workers, queue=queue, most=most, batch=self._header.batch, clip_bytes=clip_bytes)

    def prepare(self) -> Forward:
        """The network, prepared when it is first asked for. Errors as of `inference.prepare`."""
        self._forward = self._forward or self._make_forward()
        return self._forward

    @property
    def most_in_flight(self) -> int:
        """Clips that may be decoded or being decoded at once, at most."""
        return self._tuner.most_in_flight

    def run(self, tasks: Sequence[ShardTask], *, tell: Tell) -> Generator[ShardDone]:
        """Do the shards, in order; each is yielded once it is committed.

        With `stop_on_failure` the shard with the first failed row is the last one, and its later rows are left as they
        were. With the iterator closed early, or an error, the shard that is being written is finished. No ffmpeg stays.
        """
        timer, reported = Timer(), Timer()
        with ThreadPoolExecutor(1, "writer") as executor, closing(self._decode(tasks)) as clips:
            self.prepare()  # while the first videos are decoded
            writing: Future[ShardDone] | None = None
            for task in tasks:
                works, broken = self._fill(task, clips, timer, tell)
                if writing is not None:
                    yield self._finished(writing, timer, reported)
                writing = executor.submit(self._commit, task, works, broken, timer)
                if broken is not None:
                    break
            if writing is not None:
                yield self._finished(writing, timer, reported)

    def one_by_one(self, task: ShardTask, *, begin: Callable[[int], None], blamed: Collection[int]) -> ShardDone:
        """Do a shard video by video, to the same bits; see `fill_one_by_one`."""
        timer, works = Timer(), self._works(task)
        start = task.shard * self._header.shard_rows
        broken = fill_one_by_one(
            task,
            works,
            decode=lambda row: self._load(task.paths[row], row),
            forward=self.prepare(),
            batch=self._header.batch,
            start=start,
            begin=begin,
            seen=lambda row: fingerprint(self._root / task.paths[row]),
            blamed=blamed,
            stop_on_failure=self._stop_on_failure,
            timer=timer,
        )
        timer.seconds["decode"] = timer.seconds["wait"]  # one after another
        return replace(self._commit(task, works, broken, timer), seconds=timer.seconds, decoders=1)

    def _works(self, task: ShardTask) -> list[ShardWork]:
        return [ShardWork(store, task.shard, rows) for store, rows in zip(self._stores, task.rows, strict=True)]

    def _load(self, path: str, row: int) -> Clip:
        return decode_clip(
            self._root / path,
            frames=self._network.frames,
            rule=self._network.pixels,
            views=self._views,
            sampling=self._sampling,
            key=self._stores[0].index.keys[row],
            timeout_s=self._timeout_s,
            links=self._links,
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

    def _fill(
        self, task: ShardTask, clips: DecodeAhead, timer: Timer, tell: Tell
    ) -> tuple[list[ShardWork], int | None]:
        """The shard of each store that lacks rows of it, filled, and the failed row that ends the run, if one does.

        Slots are fixed: a row's place in its batch is its place in the shard, the others are fed zeros, and the last
        batch is padded to the full size. So a row's bits do not depend on which rows are done with it.
        """
        works = self._works(task)
        rows, batch = task.every, self._header.batch
        start = task.shard * self._header.shard_rows
        for first in sorted({row - (row - start) % batch for row in rows}):
            of_batch = [row for row in rows if first <= row < first + batch]
            pixels = np.zeros((batch, *self._clip_shape), np.uint8)  # [b, views, frames, size, size, 3]
            usable = self._take(of_batch, first, pixels, works, clips, timer)
            self._allowed(task.shard)
            if usable:
                self._pass(pixels, usable, first, works, clips, timer)
            failed = set[int]().union(*(work.failed for work in works)).intersection(of_batch)
            tell(len(of_batch), len(failed), bound_of(timer.seconds))
            if failed and self._stop_on_failure:
                return works, min(failed)
        return works, None

    def _take(
        self,
        rows: Sequence[int],
        first: int,
        pixels: NDArray[np.uint8],
        works: Sequence[ShardWork],
        clips: DecodeAhead,
        timer: Timer,
    ) -> dict[int, Taken]:
        """Put the clips of a batch's `rows` into their slots of pixels [b, views, frames, size, size, 3].

        first: row with which the batch begins. Returns what is to be kept of those that could be decoded, by row; the
        others fail.
        """
        usable: dict[int, Taken] = {}
        for row in rows:
            with timer.measure("wait"):
                decoded = next(clips)
            timer.seconds["decode"] += decoded.seconds
            self._tuner.decoded(decoded.seconds)
            if decoded.clip is not None:
                pixels[row - first] = decoded.clip.views
                usable[row] = Taken(decoded.clip.note, decoded.seen)
                continue
            for work in works:
                work.fail(row, decoded.reason, decoded.seen)
            if self._stop_on_failure:
                break
        return usable

    def _pass(
        self,
        pixels: NDArray[np.uint8],
        usable: Mapping[int, Taken],
        first: int,
        works: Sequence[ShardWork],
        clips: DecodeAhead,
        timer: Timer,
    ) -> None:
        """One forward pass of the clips, whose rows are `usable`, of the batch that begins with row `first`."""
        before = timer.seconds["forward"]
        with timer.measure("forward"):
            cubes = self.prepare()(pixels)  # of [b, views, c, t, h, w]
        if self._tuner.passed(self._header.batch, timer.seconds["forward"] - before):
            clips.resize(workers=self._tuner.ahead.workers, in_flight=self._tuner.ahead.in_flight)
        slots, seen = [row - first for row in usable], {row: taken.seen for row, taken in usable.items()}
        notes = {row: taken.note for row, taken in usable.items() if taken.note}
        for work, of_layer in zip(works, cubes, strict=True):
            work.put(list(usable), of_layer[slots], notes, seen)

    def _commit(self, task: ShardTask, works: Sequence[ShardWork], broken: int | None, timer: Timer) -> ShardDone:
        """Write the shards; in the writer's thread."""
        self._allowed(task.shard)
        with timer.measure("write"):
            for work in works:
                if work.rows:  # this shard of this store may have been finished before
                    work.write(device=self._device)
        failed = set[int]().union(*(work.failed for work in works))
        return ShardDone(task.shard, len(task.every), len(failed), {}, self._tuner.ahead.workers, broken)
