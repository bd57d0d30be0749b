"""One shard of one store while it is being filled, and the network as extraction uses it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ...cache.index import DONE, FAILED, MISSING
from ...cache.packed import Packed
from ...cache.packing import pack
from ..backbones.base import Backbone
from ..backbones.inference import prepare
from ..machines.devices import DEVICES
from .sink import Sink


@contextmanager
def forward_threads(count: int) -> Iterator[None]:
    """torch's threads as a store wants them, because they change bits; then as they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Forward:
    """Backbones of one network as extraction uses them: uint8 views of clips in, float32 cubes of every view out.

    Arguments and errors as of `inference.prepare`.
    """

    def __init__(
        self,
        backbones: Sequence[Backbone],
        *,
        precision: str,
        device: torch.device,
        exact: Sequence[torch.Tensor] | None = None,
    ) -> None:
        self._run = prepare(backbones, precision=precision, device=device, exact=exact)

    def __call__(self, clips: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Clips [b, views, frames, size, size, 3] -> cubes [b, views, c, t, h, w] of each backbone. Every view has
        batches of its own, so that its bits do not depend on the others."""
        of_views = clips.swapaxes(0, 1)  # [views, b, frames, size, size, 3]
        by_view = [self._run(torch.from_numpy(np.ascontiguousarray(view))) for view in of_views]
        return [torch.stack(cubes, dim=1).numpy() for cubes in zip(*by_view, strict=True)]  # [b, views, c, t, h, w]


class ShardWork:
    """The rows of one shard of one store that are to be done, beside those that are done and keep their bits."""

    def __init__(self, store: Sink, shard: int, rows: Sequence[int]) -> None:
        self._store, self._shard, self.rows = store, shard, frozenset(rows)
        self.failed: set[int] = set()  # of `rows`
        self._start = store.shard_range(shard).start
        size = len(store.shard_range(shard))
        record = store.record(shard)
        if record is None:
            self._cubes = Packed.zeros(size, store.spec)  # [r, views, c, t, h, w]
            self._states = [MISSING] * size
            self._reasons: dict[int, str] = {}
            self._notes: dict[int, str] = {}
            self._seen: dict[int, str] = {}
        else:
            self._cubes = store.read_packed(shard)  # [r, views, c, t, h, w]
            self._states = list(record.states)
            self._reasons = {row: why for row, why in record.reasons.items() if row not in self.rows}
            self._notes = {row: note for row, note in record.notes.items() if row not in self.rows}
            self._seen = {row: state for row, state in record.seen.items() if row not in self.rows}

    def put(
        self, rows: Sequence[int], cubes: NDArray[np.float32], notes: Mapping[int, str], seen: Mapping[int, str]
    ) -> None:
        """Keep the cubes [k, views, c, t, h, w] of `rows`, with a note on the video where there is one, for the rows
        that are to be done. Those that float16 cannot hold are failed rows. seen: state of each video."""
        wanted = [number for number, row in enumerate(rows) if row in self.rows]
        if not wanted:  # another store lacks these rows
            return
        packed, problems = pack(cubes[wanted], self._store.spec.dtype)
        for place, (number, problem) in enumerate(zip(wanted, problems, strict=True)):
            row = rows[number]
            self._cubes.put(row - self._start, packed[place])
            self._states[row - self._start] = DONE
            if row in notes:
                self._notes[row] = notes[row]
            if problem is not None:
                self.fail(row, problem, seen[row])

    def fail(self, row: int, reason: str, seen: str = "") -> None:
        """A failed row with its reason and its video's state, if it is to be done."""
        if row in self.rows:
            slot = row - self._start
            self._cubes.clear(slot)
            self._states[slot], self._reasons[row] = FAILED, reason
            self._notes.pop(row, None)
            self._seen[row] = seen
            self.failed.add(row)

    def write(self, *, device: str) -> None:
        """Commit the shard. Where other rows of it were computed on another device, the record names both."""
        record = self._store.record(self._shard)
        others = [] if record is None else record.device.split(DEVICES)
        device = DEVICES.join([*others, *([] if device in others else [device])])
        self._store.write_shard(
            self._shard,
            self._cubes.numbers,
            scales=self._cubes.scales,
            states=self._states,
            reasons=self._reasons,
            notes=self._notes,
            device=device,
            seen=self._seen,
        )
