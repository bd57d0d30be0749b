"""The ffmpeg processes of one run, so that none is left behind when the run is stopped."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextvars import ContextVar

from ..errors import VideoError

_CURRENT: ContextVar["Processes | None"] = ContextVar("processes", default=None)
_PATIENCE_S = 10.0  # for threads to see that their process is gone


class Processes:
    """Processes that threads started inside `here()`; `end()` kills them and lets no other begin."""

    def __init__(self) -> None:
        self._live: set[subprocess.Popen[bytes]] = set()
        self._threads, self._ended = 0, False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """What this thread runs inside the block is of this run."""
        with self._changed:
            self._threads += 1
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def end(self) -> None:
        """Kill what is running, and wait for the threads to have noticed."""
        with self._changed:
            self._ended = True
            for process in self._live:
                kill_group(process)
            self._changed.wait_for(lambda: self._threads == 0, timeout=_PATIENCE_S)

    @contextlib.contextmanager
    def _watch(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        with self._changed:
            self._live.add(process)
            if self._ended:
                kill_group(process)
        try:
            yield
        finally:
            with self._changed:
                self._live.discard(process)
        if self._ended:
            raise VideoError("stopped")


def watched(process: subprocess.Popen[bytes]) -> contextlib.AbstractContextManager[None]:
    """Have a process that was just started killed with its run, if this thread works for one."""
    current = _CURRENT.get()
    return contextlib.nullcontext() if current is None else current._watch(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a group, with everything it started, unless it was waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
