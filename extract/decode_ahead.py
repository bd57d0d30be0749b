"""Decoding many videos in threads, in order, with a bounded number of decoded clips in memory."""

import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

from joblib import Parallel, delayed

from .decode import Clip
from .errors import VideoError
from .processes import Processes

# A record keeps the reason of every failed row, so a decoder's chatter is cut.
LONGEST_REASON = 300


@dataclass(frozen=True)
class Decoded:
    """One video's turn: its clip, or why there is none; seconds: in its thread; seen: the video's `fingerprint`
    when it was read."""

    row: int
    clip: Clip | None
    reason: str
    seconds: float
    seen: str = ""


def decode_in_order(
    rows: Sequence[int], load: Callable[[int], Clip], *, workers: int, in_flight: int
) -> Generator[Decoded, None, None]:
    """Yield a Decoded for each of `rows`, in their order, decoded by `load(row)` in `workers` threads.

    At most `in_flight` clips are decoded or being decoded beyond those taken. Close the iterator to stop early.
    A VideoError of `load` is a reason; any other exception ends the iteration. When it ends, no decoder is running.
    """
    window, processes = _Window(in_flight), Processes()

    def turn(number: int, row: int) -> Decoded:
        start = time.monotonic()
        if not window.wait(number):
            return Decoded(row, None, "stopped", 0.0)
        try:
            start = time.monotonic()
            with processes.here():
                clip, reason = load(row), ""
            seen = clip.seen
        except VideoError as error:
            clip, reason = None, " ".join(str(error).split())[:LONGEST_REASON] or "cannot be decoded"
            seen = error.seen
        return Decoded(row, clip, reason, time.monotonic() - start, seen)

    parallel = Parallel(n_jobs=workers, backend="threading", return_as="generator")
    results: Any = parallel(delayed(turn)(number, row) for number, row in enumerate(rows))
    try:
        for result in results:
            window.advance()
            yield result
    finally:
        window.close()
        processes.end()
        with warnings.catch_warnings():
            # Stopping early is a choice here, and joblib warns of it.
            warnings.simplefilter("ignore")
            results.close()


class _Window:
    """Lets task `number` begin once fewer than `size` tasks before it are waiting to be taken.

    joblib's generator decodes on while its consumer is busy. A semaphore on its input would hold joblib's own lock
    while it waits, which its consumer needs; and one on its tasks could be held by later tasks while an earlier one
    waits. By number, the task that is taken next may always begin.
    """

    def __init__(self, size: int) -> None:
        self._size, self._taken, self._closed = max(size, 1), 0, False
        self._changed = threading.Condition()

    def wait(self, number: int) -> bool:
        """Block until the task may begin; False when the window was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or number < self._taken + self._size)
            return not self._closed

    def advance(self) -> None:
        """One more result was taken."""
        with self._changed:
            self._taken += 1
            self._changed.notify_all()

    def close(self) -> None:
        """No task begins any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
