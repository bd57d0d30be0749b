"""Work in pieces, each done by one thread: torch's own would wait for each other at the end of every product."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

import torch

from .buffers import Buffers

Piece = TypeVar("Piece")


class SideBySide:
    """As many threads as torch has, each calling torch alone; on an accelerator, and with one thread, the caller's own.

    A piece gives the same bits on any number of threads. No gradients are recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._own = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._threads > 1:
            self._pool = ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)  # what a thread sets holds for threads yet to come, too

    @property
    def buffers(self) -> Buffers:
        """Memory that the pieces of one thread share."""
        if not hasattr(self._own, "buffers"):
            self._own.buffers = Buffers()
        return self._own.buffers

    def run(self, work: Callable[[Piece], None], pieces: Iterable[Piece]) -> None:
        """Do all pieces, in any order; raises what one of them raises."""

        def alone(piece: Piece) -> None:
            with torch.no_grad():  # each thread has its own mode
                work(piece)

        for _ in map(alone, pieces) if self._pool is None else self._pool.map(alone, pieces):
            pass
