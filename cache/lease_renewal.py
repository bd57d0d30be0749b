"""Renewing a lease beside the work that it protects, and stopping that work when the lease is lost."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, cast

from .errors import CacheError

_SIGNAL = signal.SIGRTMIN  # one that nobody sends, and that no shell has its jobs ignore as it has SIGINT


class Renewal(AbstractContextManager["Renewal"]):
    """While the block runs, calls renew() `every` so many seconds: it gives '' while the lease is ours, else why not.

    A lease that was taken by others, or could not be renewed for `patience` seconds, is lost: `lost` says why, and the
    main thread is interrupted as by Ctrl-C, if it is the one that holds the lease, and even where Ctrl-C is ignored
    (`nohup ... &`). Whatever other threads do meanwhile, `held.py` keeps them from writing.
    """

    def __init__(self, renew: Callable[[], str], *, every: float, patience: float) -> None:
        self._renew, self._every, self._patience = renew, every, patience
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._interrupts, self._handler = False, cast(Any, None)
        self.lost = ""

    def _run(self) -> None:
        last = time.monotonic()
        while not self._done.wait(self._every):
            try:
                self.lost = self._renew()
                last = time.monotonic()
            except (CacheError, OSError) as error:
                if time.monotonic() - last > self._patience:
                    self.lost = str(error)
            if self.lost and not self._done.is_set():
                if self._interrupts:
                    # A signal, because _thread.interrupt_main would wait for the end of a system call.
                    signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
                return

    def __enter__(self) -> Self:
        self._interrupts = threading.current_thread() is threading.main_thread()
        if self._interrupts:
            self._handler = signal.signal(_SIGNAL, _interrupt)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        try:
            self._thread.join()
        finally:
            if self._interrupts:
                signal.signal(_SIGNAL, self._handler)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
