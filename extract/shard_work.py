"""One shard: its clips in batches through the backbone, its cubes packed and written."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ..cache.index import DONE, FAILED, MISSING
from ..cache.packing import pack_float16
from ..cache.store import Store
from .backbones.base import Backbone
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
    """The backbone as extraction uses it: uint8 clips in, float32 cubes of every view out."""

    def __init__(self, backbone: Backbone, *, views: Sequence[str], precision: str, device: torch.device) -> None:
        self._run = backbone.prepare_for_inference(precision, device)
        self._views = views
        self.clip_shape = (backbone.frames, backbone.size, backbone.size, 3)

    def __call__(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Clips [b, frames, size, size, 3] -> cubes [b, views, c, t, h, w]. Every view has batches of its own."""
        cubes = [self._run(torch.from_numpy(np.ascontiguousarray(apply_view(v, clips)))) for v in self._views]
        return torch.stack(cubes, dim=1).numpy()  # [b, views, c, t, h, w]


class ShardWork:
    """The rows of one shard that are to be done, beside those that are done already and keep their bits."""

    def __init__(self, store: Store, shard: int, rows: Sequence[int]) -> None:
        self._store, self._shard, self._todo = store, shard, rows
        self._range = store.shard_range(shard)
        record = store.record(shard)
        if record is None:
            self._cubes = np.zeros((len(self._range), *store.spec.row_shape), np.float16)  # [r, views, c, t, h, w]
            self._states = [MISSING] * len(self._range)
            self._reasons: dict[int, str] = {}
            self._notes: dict[int, str] = {}
        else:
            self._cubes = store.read_shard(shard)  # [r, views, c, t, h, w]
            self._states = list(record.states)
            self._reasons = {row: why for row, why in record.reasons.items() if row not in rows}
            self._notes = {row: note for row, note in record.notes.items() if row not in rows}

    def extract(
        self, clips: Iterator[Decoded], forward: Forward, *, timer: Timer, tell: Callable[[bool], None]
    ) -> None:
        """Take this shard's clips, in order, and fill in its cubes; `tell(failed)` is called once a row.

        Slots are fixed: a row's place in its batch is its place in the shard, the others are fed zeros, and the
        last batch is padded to the full size. So a row's bits do not depend on which rows are done with it.
        """
        batch = self._store.header.batch
        for first in range(0, len(self._range), batch):
            rows = [row for row in self._todo if first <= row - self._range.start < first + batch]
            if rows:
                self._one_batch(rows, self._range.start + first, clips, forward, timer, tell)

    def write(self, *, device: str) -> None:
        """Commit the shard."""
        self._store.write_shard(
            self._shard, self._cubes, states=self._states, reasons=self._reasons, notes=self._notes, device=device
        )

    def _one_batch(
        self,
        rows: Sequence[int],
        first: int,
        clips: Iterator[Decoded],
        forward: Forward,
        timer: Timer,
        tell: Callable[[bool], None],
    ) -> None:
        pixels = np.zeros((self._store.header.batch, *forward.clip_shape), np.uint8)  # [b, frames, size, size, 3]
        usable = []
        for row in rows:
            with timer.measure("wait"):
                decoded = next(clips)
            timer.seconds["decode"] += decoded.seconds
            if decoded.clip is None:
                self._fail(row, decoded.reason)
                tell(True)
            else:
                pixels[row - first] = decoded.clip.pixels
                if decoded.clip.note:
                    self._notes[row] = decoded.clip.note
                usable.append(row)
        if not usable:
            return
        with timer.measure("forward"):
            cubes = forward(pixels)[[row - first for row in usable]]  # [usable, views, c, t, h, w]
        packed, problems = pack_float16(cubes)
        for row, cube, problem in zip(usable, packed, problems, strict=True):
            slot = row - self._range.start
            self._cubes[slot], self._states[slot] = cube, DONE
            if problem is not None:
                self._fail(row, problem)
            tell(problem is not None)

    def _fail(self, row: int, reason: str) -> None:
        slot = row - self._range.start
        self._cubes[slot], self._states[slot], self._reasons[row] = 0, FAILED, reason
        self._notes.pop(row, None)
