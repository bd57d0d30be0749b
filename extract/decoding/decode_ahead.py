"""Decoding many videos in threads, in order, with a bounded number of decoded clips in memory."""

import heapq
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self

from joblib import Parallel, delayed

from ..errors import VideoError
from .decode import Clip
from .processes import Processes

# A record keeps the reason of every failed row, so a decoder's chatter is cut.
LONGEST_REASON = 300


def reason_in_one_line(error: VideoError) -> str:
    """What a failed row's record keeps of an error."""
    return " ".join(str(error).split())[:LONGEST_REASON] or "cannot be decoded"


@dataclass(frozen=True)
class Decoded:
    """One video's turn: its clip, or why there is none; seconds: in its thread; seen: the video's `fingerprint`
    when it was read."""

    row: int
    clip: Clip | None
    reason: str
    seconds: float
    seen: str = ""


class DecodeAhead:
    """An iterator that gives a Decoded for each of `rows`, in their order, decoded by `load(row)` in threads.

    threads: most decoders at once; workers: how many of them work until `resize` says otherwise; in_flight: at most so
    many clips are decoded or being decoded beyond those taken. Close it to stop early. A VideoError of `load` is a
    reason; any other exception ends the iteration. When it has ended or was closed, no decoder is running.
    """

    def __init__(
        self, rows: Sequence[int], load: Callable[[int], Clip], *, threads: int, workers: int, in_flight: int
    ) -> None:
        self._load = load
        self._window, self._processes = _Window(workers, in_flight), Processes()
        parallel = Parallel(n_jobs=threads, backend="threading", return_as="generator")
        turns = (delayed(self._turn)(number, row) for number, row in enumerate(rows))
        self._results: Any = parallel(turns)

    def resize(self, *, workers: int, in_flight: int) -> None:
        """Use so many decoders and so long a queue from now on."""
        self._window.resize(workers, in_flight)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Decoded:
        try:
            result = next(self._results)
        except BaseException:  # the end, or a fault in a thread
            self._end()
            raise
        self._window.advance()
        return result

    def close(self) -> None:
        """Begin no further video, and stop those that are being decoded."""
        self._end()
        with warnings.catch_warnings():
            # Stopping early is a choice here, and joblib warns of it.
            warnings.simplefilter("ignore")
            self._results.close()

    def _end(self) -> None:
        self._window.close()
        self._processes.end()

    def _turn(self, number: int, row: int) -> Decoded:
        if not self._window.enter(number):
            return Decoded(row, None, "stopped", 0.0)
        start = time.monotonic()
        try:
            with self._processes.here():
                clip, reason = self._load(row), ""
            seen = clip.seen
        except VideoError as error:
            clip, reason = None, reason_in_one_line(error)
            seen = error.seen
        finally:
            self._window.leave()
        return Decoded(row, clip, reason, time.monotonic() - start, seen)


class _Window:
    """Lets task `number` begin once fewer than `size` tasks before it are waiting to be taken and fewer than `workers`
    are at work; the lowest number first.

    joblib's generator decodes on while its consumer is busy. A semaphore on its input would hold joblib's own lock
    while it waits, which its consumer needs; and one on its tasks could be held by later tasks while an earlier one
    waits. By number, the task that is taken next may always begin: those at work wait for nothing. Each waits at a gate
    of its own: dozens of threads that wake at every change to find that it is not their turn would take Python's lock
    from the thread that drives the network.
    """

    def __init__(self, workers: int, size: int) -> None:
        self._workers, self._size = max(workers, 1), max(size, 1)
        self._taken, self._closed = 0, False
        self._waiting: list[tuple[int, Future[bool]]] = []  # a heap
        self._at_work = 0
        self._lock = threading.Lock()

    def resize(self, workers: int, size: int) -> None:
        with self._lock:
            self._workers, self._size = max(workers, 1), max(size, 1)
            self._admit()

    def enter(self, number: int) -> bool:
        """Block until the task may begin; False when the window was closed."""
        gate: Future[bool] = Future()
        with self._lock:
            heapq.heappush(self._waiting, (number, gate))
            self._admit()
        return gate.result()

    def leave(self) -> None:
        """The task is done."""
        with self._lock:
            self._at_work -= 1
            self._admit()

    def advance(self) -> None:
        """One more result was taken."""
        with self._lock:
            self._taken += 1
            self._admit()

    def close(self) -> None:
        """No task begins any more."""
        with self._lock:
            self._closed = True
            self._admit()

    def _admit(self) -> None:
        """Open the gates of those that may begin; called with the lock held."""
        while self._waiting and (self._closed or self._may(self._waiting[0][0])):
            _, gate = heapq.heappop(self._waiting)
            self._at_work += not self._closed
            gate.set_result(not self._closed)

    def _may(self, number: int) -> bool:
        return number < self._taken + self._size and self._at_work < self._workers
