"""The rows of a shard one after another, each alone: slow, and it shows which video a worker dies of."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from ..decoding.decode import Clip
from ..decoding.decode_ahead import reason_in_one_line
from ..errors import VideoError
from .shard_work import Forward, ShardWork
from .tasks import ShardTask
from .timer import Timer

BLAMED = "the decoder or network killed its worker: twice among the videos of its shard, then alone"


def fill_one_by_one(
    task: ShardTask,
    works: Sequence[ShardWork],
    *,
    decode: Callable[[int], Clip],
    forward: Forward,
    batch: int,
    start: int,
    begin: Callable[[int], None],
    seen: Callable[[int], str],
    blamed: Collection[int],
    stop_on_failure: bool,
    timer: Timer,
) -> int | None:
    """Fill `works`, the shard of each store, to the bits of batches: a row has its slot, and the others are zeros.

    start: first row of the shard; begin(row) is called before each video; seen(row): the state of a
    video's file, for those that are not read; blamed: rows that are failed untried; stop_on_failure: end
    behind the first failed row, and return it. None where all rows were done.
    """

    def fill(row: int) -> None:
        if row in blamed:
            _fail(works, row, BLAMED, seen(row))
            return
        begin(row)
        try:
            with timer.measure("wait"):
                clip = decode(row)
        except VideoError as error:
            _fail(works, row, reason_in_one_line(error), error.seen)
            return
        pixels = np.zeros((batch, *clip.views.shape), np.uint8)  # [b, views, frames, size, size, 3]
        slot = (row - start) % batch
        pixels[slot] = clip.views
        with timer.measure("forward"):
            of_works = forward(pixels)
        for work, cubes in zip(works, of_works, strict=True):  # of [b, views, c, t, h, w]
            work.put([row], cubes[[slot]], {row: clip.note} if clip.note else {}, {row: clip.seen})

    for row in task.every:
        fill(row)
        if stop_on_failure and any(row in work.failed for work in works):
            return row
    return None


def _fail(works: Sequence[ShardWork], row: int, reason: str, seen: str) -> None:
    for work in works:
        work.fail(row, reason, seen)
