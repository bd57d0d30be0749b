"""The pipeline on a sample of videos, with nothing kept: how fast a run will be on this machine."""

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.index import DONE, FAILED, VideoIndex
from ...cache.packed import Packed
from ...cache.place import StorePath
from ...cache.record import StoreHeader
from ...cache.room import nearest_folder
from ...cache.writing import row_digest
from ...cache.zstd_cubes import compress
from ..backbones.base import Backbone
from ..engine.pipeline import Pipeline
from ..engine.sink import Rehearsal
from ..engine.tasks import ShardDone, make_tasks
from ..engine.timer import STAGES, bound_of

_SETTLED = 2  # batches until the pace is believed: the first ones set a network up and fill the queue
_FEW = 4  # batches: in fewer, what was waited for is chance, and all batches together say more


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a rehearsal showed.

    videos, seconds: all of it; started: (videos committed, seconds) when the pace began to count; pace: seconds a video
    from then on; forward: seconds of a forward pass; write: seconds of writing a video; stages: seconds by stage of the
    part that counts; bound: the stage that was waited for most; decoders; most_in_flight: clips that may be ahead;
    failures: key -> reason; squeezed: bytes of the cubes as they would be stored, as a share of what they are
    uncompressed.
    """

    videos: int
    seconds: float
    started: tuple[int, float]
    pace: float
    forward: float
    write: float
    stages: dict[str, float]
    bound: str
    decoders: int
    most_in_flight: int
    failures: dict[str, str]
    squeezed: float


def spread(n: int) -> list[int]:
    """0 to n - 1 in an order of which every beginning is spread evenly over them: 0, 4, 2, 6, 1, ... for 8.

    Rows stand by split and class, so each gets its share of the beginning.
    """
    bits = max(n - 1, 0).bit_length()
    return [k for i in range(1 << bits) if (k := int(f"{i:0{bits}b}"[::-1] or "0", 2)) < n]


def measure(
    headers: Sequence[StoreHeader],
    backbones: Sequence[Backbone],
    *,
    outs: Sequence[StorePath],
    index: VideoIndex,
    rows: Sequence[int],
    most: int,
    limit_s: float,
    **how: Any,
) -> Sample:
    """Run the pipeline over `rows` of the index, spread evenly, until `most` videos are done or the seconds are over.

    headers, backbones, outs: of the stores that lack rows; how: for the Pipeline. Cubes go to a nameless file beside
    each store, which the system removes by itself. A video that is being decoded when the time is over is waited for.
    """
    picked = [rows[k] for k in spread(len(rows))]
    sample = VideoIndex.from_columns({k: [col[r] for r in picked] for k, col in index.to_columns().items()})
    with ExitStack() as files:
        scratches = [files.enter_context(closing(_Scratch(o, h))) for o, h in zip(outs, headers, strict=True)]
        # A shard for each batch, so that the pace can be read off batch by batch.
        sinks = [Rehearsal(replace(h, shard_rows=h.batch), sample, s) for h, s in zip(headers, scratches, strict=True)]
        pipeline = Pipeline(sinks, backbones, **how)
        tasks = list(make_tasks(sinks, [range(len(sample))] * len(sinks), sample.paths))
        marks: list[tuple[float, ShardDone]] = []
        start = time.monotonic()
        with closing(pipeline.run(tasks, tell=lambda tried, failed, bound: None)) as finished:
            for done in finished:
                marks.append((time.monotonic() - start, done))
                if sum(d.tried for _, d in marks) >= most or marks[-1][0] >= limit_s:
                    break
        about = {
            "failures": {sample.keys[row]: why for row, why in scratches[0].reasons.items()},
            "squeezed": float(np.mean([s.squeezed for s in scratches])),
        }
    return sample_of(marks, most_in_flight=pipeline.most_in_flight, **about)


def sample_of(marks: Sequence[tuple[float, ShardDone]], **about: Any) -> Sample:
    """What batches showed; marks: seconds from the start to each one's end, and the batch; about: the other fields."""
    settled = min(_SETTLED, len(marks) - 1)
    begun, counted = marks[settled - 1][0] if settled else 0.0, [done for _, done in marks[settled:]]
    videos = sum(done.tried for done in counted)
    stages = _by_stage(counted)
    return Sample(
        videos=sum(done.tried for _, done in marks),
        seconds=marks[-1][0],
        started=(sum(done.tried for _, done in marks[:settled]), begun),
        pace=(marks[-1][0] - begun) / videos,
        forward=stages["forward"] / len(counted),
        write=stages["write"] / videos,
        stages=stages,
        bound=bound_of(stages if len(counted) >= _FEW else _by_stage([done for _, done in marks])),
        decoders=marks[-1][1].decoders,
        **about,
    )


def _by_stage(batches: Sequence[ShardDone]) -> dict[str, float]:
    return {stage: sum(done.seconds[stage] for done in batches) for stage in STAGES}


class _Scratch:
    """What writing costs beside a store, shard by shard: checksums, compression, and the disk."""

    def __init__(self, out: StorePath, header: StoreHeader) -> None:
        self._header = header
        # Without a name there is nothing to leave behind. The caller closes it.
        # What putting objects costs is not measured, only what comes before it.
        self._file = tempfile.TemporaryFile(dir=nearest_folder(out) if isinstance(out, Path) else None)  # noqa: SIM115
        self._rows = self._bytes = self._raw = 0
        self.reasons: dict[int, str] = {}

    def __call__(self, rows: range, cubes: Packed, states: Sequence[int], reasons: Mapping[int, str]) -> None:
        """Take the cubes [r, views, c, t, h, w] of `rows`."""
        self.reasons.update({row: reasons[row] for row, state in zip(rows, states, strict=True) if state == FAILED})
        for row, state in zip((cubes[slot] for slot in range(len(cubes))), states, strict=True):
            if state == DONE:
                row_digest(row)
                self._raw += row.nbytes
                pieces = [compress(cube) if self._header.compress else cube.tobytes() for cube in row.numbers]
                pieces += [] if row.scales is None else [row.scales.tobytes()]
                self._bytes += sum(map(self._file.write, pieces))
        self._rows += len(rows)
        if self._rows >= self._header.shard_rows:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.seek(0)
            self._file.truncate()
            self._rows = 0

    @property
    def squeezed(self) -> float:
        return self._bytes / self._raw if self._raw else 1.0

    def close(self) -> None:
        self._file.close()
