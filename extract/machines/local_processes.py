"""Several devices of this machine: one process for each, by joblib's loky. Each takes a few shards at a time.

A process that dies takes none of the others with it: each has a pool of its own, so it is known which shards were lost.
They are begun again, one by one; `worker.py` sees from the marks which shard kills its workers.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any

import torch

from ...cache.console import say
from ..engine.tasks import Job, Outstanding, ShardDone, ShardTask
from .deaths import Deaths
from .worker import do_shards

_MOST_SHARDS = 4  # at once: the next one's videos are decoded while the last one of a process's turn is written
_STOP_S = 10  # for a process to end its batch when the run is stopped
_ORPHAN_S = 1  # between two looks whether the main process is there


class LocalProcesses:
    """A process for each of `devices`, which do the shards of `todo` and write them to the stores themselves."""

    def __init__(self, job: Job, devices: Sequence[torch.device], todo: Outstanding) -> None:
        self._jobs = [replace(job, device=str(device)) for device in devices]
        self._todo, self._waiting = todo, deque(todo.tasks())
        self._suspects: deque[ShardTask] = deque()  # of processes that died
        self._pools: list[Any] = [None] * len(devices)
        self._running: dict[Future[list[ShardDone]], tuple[int, list[int]]] = {}  # process and shards of each turn
        self._deaths = Deaths(len(devices))

    def run(self) -> Generator[ShardDone]:
        """Yield the shards as they are committed, in any order. Closed early, or with an error, it leaves no process.

        The caller has opened the run at the stores' marks, and closes it before it closes this.
        """
        self._give_idle()
        while self._running:
            ready, _ = wait(self._running, return_when=FIRST_COMPLETED)
            for future in ready:
                process, shards = self._running.pop(future)
                yield from self._ended(future, process, shards)
            self._give_idle()  # also those that ran dry: there may be the shards of a process that died

    def stop(self) -> None:
        """End all processes, after their batch if they can, with what they started."""
        wait(self._running, timeout=_STOP_S)
        for pool in self._pools:
            if pool is not None:
                pool.shutdown(wait=True, kill_workers=True)

    def _give_idle(self) -> None:
        busy = {process for process, _ in self._running.values()}
        for process in range(len(self._jobs)):
            if process not in busy:
                self._give(process)

    def _give(self, process: int) -> None:
        """The next shards for a process that has nothing to do."""
        if self._suspects:
            # One at a time, so that the next death says which shard it was.
            tasks = [self._suspects.popleft()]
        else:
            share = max(len(self._waiting) // (2 * len(self._jobs)), 1)
            tasks = [self._waiting.popleft() for _ in range(min(share, _MOST_SHARDS, len(self._waiting)))]
        if not tasks:
            return
        if self._pools[process] is None:
            self._pools[process] = _new_pool()
        future = self._pools[process].submit(do_shards, self._jobs[process], tasks)
        self._running[future] = process, [task.shard for task in tasks]

    def _ended(self, future: Future[list[ShardDone]], process: int, shards: list[int]) -> Generator[ShardDone]:
        from joblib.externals.loky.process_executor import BrokenProcessPool

        try:
            finished = future.result()
        except BrokenProcessPool as error:
            self._pools[process].shutdown(wait=True, kill_workers=True)
            self._pools[process] = None
            finished = self._todo.look(shards)
            say(f"a process on {self._jobs[process].device} ended, and what it had not finished is done again")
            self._suspects += [task for task in self._todo.tasks() if task.shard in shards]
            if self._todo.found_culprits(shards):
                self._deaths.progress()
            elif not finished:
                self._deaths.one_more(str(error).split(". ")[0])
        for done in finished:
            self._deaths.progress()
            self._todo.finished(done)
            yield done


def _new_pool() -> Any:
    """A pool of one process. Ctrl-C reaches this process alone, which then ends the others; killed, it cannot."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.backend import get_context

    return ProcessPoolExecutor(1, context=get_context("loky"), initializer=_begin_process, initargs=(os.getpid(),))


def _begin_process(main: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(main,), daemon=True).start()


def _end_with(main: int) -> None:
    """End this process once the main one is gone: nobody else would, and it holds a network and its memory."""
    while os.getppid() == main:
        time.sleep(_ORPHAN_S)
    os._exit(1)
