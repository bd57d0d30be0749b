"""One shard: its clips in batches through the network, its cubes packed and written, for one store or several."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ..cache.index import DONE, FAILED, MISSING
from ..cache.packing import pack_float16
from ..cache.store import Store
from .backbones.base import Backbone
from .backbones.inference import prepare
from .decode_ahead import Decoded
from .views import apply_view


class Timer:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(("decode", "wait", "forward", "write", "total"), 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - start


class Forward:
    """Backbones of one network as extraction uses them: uint8 clips in, float32 cubes of every view out."""

    def __init__(
        self, backbones: Sequence[Backbone], *, views: Sequence[str], precision: str, device: torch.device
    ) -> None:
        self._run = prepare(backbones, precision=precision, device=device)
        self._views = views
        self.clip_shape = (backbones[0].frames, backbones[0].size, backbones[0].size, 3)

    def __call__(self, clips: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Clips [b, frames, size, size, 3] -> cubes [b, views, c, t, h, w] of each backbone. Every view has batches
        of its own."""
        by_view = [self._run(torch.from_numpy(np.ascontiguousarray(apply_view(v, clips)))) for v in self._views]
        return [torch.stack(cubes, dim=1).numpy() for cubes in zip(*by_view, strict=True)]  # [b, views, c, t, h, w]


class ShardWork:
    """The rows of one shard of one store that are to be done, beside those that are done and keep their bits."""

    def __init__(self, store: Store, shard: int, rows: Sequence[int]) -> None:
        self._store, self._shard, self.rows = store, shard, frozenset(rows)
        self._start = store.shard_range(shard).start
        size = len(store.shard_range(shard))
        record = store.record(shard)
        if record is None:
            self._cubes = np.zeros((size, *store.spec.row_shape), np.float16)  # [r, views, c, t, h, w]
            self._states = [MISSING] * size
            self._reasons: dict[int, str] = {}
            self._notes: dict[int, str] = {}
            self._seen: dict[int, str] = {}
        else:
            self._cubes = store.read_shard(shard)  # [r, views, c, t, h, w]
            self._states = list(record.states)
            self._reasons = {row: why for row, why in record.reasons.items() if row not in self.rows}
            self._notes = {row: note for row, note in record.notes.items() if row not in self.rows}
            self._seen = {row: state for row, state in record.seen.items() if row not in self.rows}

    def put(
        self, rows: Sequence[int], cubes: NDArray[np.float32], notes: Mapping[int, str], seen: Mapping[int, str]
    ) -> list[int]:
        """Keep the cubes [k, views, c, t, h, w] of `rows`, with a note on the video where there is one, for the rows
        that are to be done. Gives those that failed, because float16 cannot hold them. seen: state of each video."""
        wanted = [number for number, row in enumerate(rows) if row in self.rows]
        if not wanted:  # another store lacks these rows
            return []
        packed, problems = pack_float16(cubes[wanted])
        failed = []
        for number, cube, problem in zip(wanted, packed, problems, strict=True):
            row = rows[number]
            self._cubes[row - self._start], self._states[row - self._start] = cube, DONE
            if row in notes:
                self._notes[row] = notes[row]
            if problem is not None:
                self.fail(row, problem, seen[row])
                failed.append(row)
        return failed

    def fail(self, row: int, reason: str, seen: str = "") -> None:
        """A failed row with its reason and its video's state, if it is to be done."""
        if row in self.rows:
            slot = row - self._start
            self._cubes[slot], self._states[slot], self._reasons[row] = 0, FAILED, reason
            self._notes.pop(row, None)
            self._seen[row] = seen

    def write(self, *, device: str) -> None:
        """Commit the shard."""
        self._store.write_shard(
            self._shard,
            self._cubes,
            states=self._states,
            reasons=self._reasons,
            notes=self._notes,
            device=device,
            seen=self._seen,
        )


def extract_rows(
    works: Sequence[ShardWork],
    rows: Sequence[int],
    *,
    start: int,
    batch: int,
    clips: Iterator[Decoded],
    forward: Forward,
    timer: Timer,
    tell: Callable[[bool], None],
    stop_on_failure: bool = False,
) -> int | None:
    """Take the clips of `rows`, which are of one shard and in order, and fill in the cubes of its stores.

    works: one for each backbone of `forward`; start: the shard's first row; tell(failed) is called once a row.
    Returns None, or with `stop_on_failure` the row that failed first; those after it are left as they were.

    Slots are fixed: a row's place in its batch is its place in the shard, the others are fed zeros, and the last
    batch is padded to the full size. So a row's bits do not depend on which rows are done with it.
    """
    for first in sorted({row - (row - start) % batch for row in rows}):
        pixels = np.zeros((batch, *forward.clip_shape), np.uint8)  # [b, frames, size, size, 3]
        usable: list[int] = []
        notes: dict[int, str] = {}
        seen: dict[int, str] = {}
        broken: int | None = None
        for row in (row for row in rows if first <= row < first + batch):
            with timer.measure("wait"):
                decoded = next(clips)
            timer.seconds["decode"] += decoded.seconds
            if decoded.clip is None:
                for work in works:
                    work.fail(row, decoded.reason, decoded.seen)
                tell(True)
                if stop_on_failure:
                    broken = row
                    break
                continue
            pixels[row - first] = decoded.clip.pixels
            if decoded.clip.note:
                notes[row] = decoded.clip.note
            seen[row] = decoded.seen
            usable.append(row)
        failed: set[int] = set()
        if usable:
            with timer.measure("forward"):
                cubes = forward(pixels)  # of [b, views, c, t, h, w]
            slots = [row - first for row in usable]
            pairs = zip(works, cubes, strict=True)
            failed = {row for work, of in pairs for row in work.put(usable, of[slots], notes, seen)}
        for row in usable:
            tell(row in failed)
        if stop_on_failure and (failed or broken is not None):
            return min(failed, default=broken)
    return None
