"""What one process does for a run: it loads the network once, and does shards that it is given.

The same function serves processes of this machine and workers of a cluster. Whoever gives out the work needs nothing
from it but what it returns: what is done is in the store, and what a worker died of is in the marks beside it.
"""

import os
import socket
import threading
from collections.abc import Sequence

from ...cache.attempts import Attempt, Attempts, try_writing
from ...cache.errors import CacheError, StoppedError
from ...cache.place import StorePath
from ...cache.store import Store, open_store
from ..backbones.base import Backbone
from ..datasets.links import Links
from ..engine.pipeline import Pipeline
from ..engine.shard_work import forward_threads
from ..engine.surroundings import versions_here
from ..engine.tasks import Job, ShardDone, ShardTask, what_is_left
from ..engine.workers import most_decoders
from ..errors import ExtractError
from .devices import device_name, kinds_of, resolve_device

TRIES = 2  # of a shard with all its videos, before they are done one by one

_SHARED = "the store must be in a folder that all workers share, at the same path"
_at_work = threading.Lock()  # one shard at a time, whatever the scheduler thinks
_current: dict[str, "Worker"] = {}  # by run; one at most


class GivenUpError(StoppedError):
    """The run ended, or gave this shard to another worker; nobody waits for the answer."""


class WorkerRefusedError(ExtractError):
    """This process cannot work for the run: it lacks root, weights or store, or is of another kind."""


def do_shards(job: Job, tasks: Sequence[ShardTask]) -> list[ShardDone]:
    """Do the shards of `tasks`, in this process. WorkerRefusedError when it cannot, ExtractError and OSError as in
    `run.extract`."""
    with _at_work:
        return _worker_for(job).do(tasks)


def refusal(job: Job) -> str:
    """Why this process cannot work for the job, in one line; '' when it can. Loads the network."""
    try:
        with _at_work:
            _worker_for(job)
    except WorkerRefusedError as error:
        return str(error)
    return ""


def forget(wait_s: float = 15) -> bool:
    """Let go of the network, once nothing is at work any more. False when that lasts longer than `wait_s`."""
    free = _at_work.acquire(timeout=wait_s)
    if free:
        _current.clear()
        _at_work.release()
    return free


def where_am_i() -> str:
    """This process, for whoever has to find it."""
    return f"{socket.gethostname()} (pid {os.getpid()})"


def _worker_for(job: Job) -> "Worker":
    if job.run not in _current:
        _current.clear()
        try:
            _current[job.run] = Worker(job)
        except StoppedError:
            raise
        except (ExtractError, CacheError, OSError) as error:
            raise WorkerRefusedError(f"worker {where_am_i()}: {error}") from error
    return _current[job.run]


class Worker:
    """The network, prepared on this process's device, and the stores. ExtractError for what is not as the job says."""

    def __init__(self, job: Job) -> None:
        self._job = job
        _check_versions(job)
        _check_videos(job)
        self._stores = [_open(out, digest) for out, digest in zip(job.outs, job.digests, strict=True)]
        self._marks, *self._others = [Attempts(store.path) for store in self._stores]
        if not self._is_open():
            raise ExtractError(f"at {job.outs[0]} it sees a copy of the store, or the run has ended; {_SHARED}")
        device = resolve_device(job.device)
        if job.kind and kinds_of([device_name(device)]) != [job.kind]:
            raise ExtractError(
                f"it computes on {device_name(device)}, and the run on {job.kind}, whose cubes differ in their last "
                "bits; pass --allow-mixed-devices, or start workers of one kind"
            )
        backbones = _load(job, self._stores)
        self._attempts: dict[int, Attempt] = {}
        self._pipeline = Pipeline(
            self._stores,
            backbones,
            root=job.root,
            device=device,
            workers=job.workers,
            queue=job.queue,
            links=Links(job.root, job.follow_links),
            timeout_s=job.timeout_s,
            stop_on_failure=job.stop_on_failure,
            most=most_decoders(job.sharing.get(socket.gethostname(), 1)),
            allowed=self._require_held,
        )
        self._pipeline.prepare()  # whoever cannot compute is refused before it gets a shard

    def do(self, tasks: Sequence[ShardTask]) -> list[ShardDone]:
        """Do shards. Those whose workers died twice are done video by video, so that the culprit is known."""
        for store in self._stores:
            store.refresh()
        with forward_threads(self._stores[0].header.threads):
            stop = self._job.stop_on_failure
            return self._do([what_is_left(self._stores, task, stop_on_failure=stop) for task in tasks])

    def _do(self, found: Sequence[ShardTask | ShardDone]) -> list[ShardDone]:
        if not self._is_open():
            raise GivenUpError("the run has ended")
        # Committed by a worker that was lost before it could say so.
        finished = [task for task in found if isinstance(task, ShardDone)]
        tasks = [task for task in found if isinstance(task, ShardTask)]
        self._attempts = {task.shard: self._marks.begin(task.shard, self._job.run) for task in tasks}
        usual = [task for task in tasks if self._attempts[task.shard].tries <= TRIES]
        if not _stopped(finished):
            for done in self._pipeline.run(usual, tell=lambda tried, failed, bound: None):
                finished.append(self._committed(done))
        for task in tasks:
            if task not in usual and not _stopped(finished):
                finished.append(self._committed(self._one_by_one(task)))
        return finished

    def _one_by_one(self, task: ShardTask) -> ShardDone:
        blamed = self._attempts[task.shard].blamed

        def begin(row: int) -> None:
            self._require_held(task.shard)
            self._attempts[task.shard] = self._marks.at_row(self._attempts[task.shard], row)

        return self._pipeline.one_by_one(task, begin=begin, blamed=blamed)

    def _committed(self, done: ShardDone) -> ShardDone:
        self._marks.end(self._attempts[done.shard])
        return done

    def _is_open(self) -> bool:
        """Whether the run has all of its stores: shards are marked at the first, and each may have a new run since."""
        return all(marks.is_open(self._job.run) for marks in (self._marks, *self._others))

    def _require_held(self, shard: int) -> None:
        if not (self._marks.holds(self._attempts[shard]) and self._is_open()):
            raise GivenUpError(f"shard {shard} is no longer this worker's: the run ended, or another worker has it")


def _stopped(finished: Sequence[ShardDone]) -> bool:
    """Whether a failed row among these ended the run."""
    return any(done.stopped_at is not None for done in finished)


def _check_versions(job: Job) -> None:
    for name, here in versions_here().items():
        there = job.versions.get(name, here)
        if here != there:
            raise ExtractError(f"its {name} is {here}, and that of the run {there}; install the same versions")


def _check_videos(job: Job) -> None:
    if not job.root.is_dir():
        raise ExtractError(f"it does not see the root ({job.root}); mount the videos at the same path everywhere")
    for path in job.sample:
        if not os.path.lexists(job.root / path):
            raise ExtractError(f"it does not see the video {job.root / path}; mount the videos at the same path")


def _open(out: StorePath, digest: str) -> Store:
    try:
        store = open_store(out)
    except CacheError as error:
        raise ExtractError(f"it does not see the store ({error}); {_SHARED}") from error
    if store.digest != digest:
        raise ExtractError(f"at {out} it sees another store; {_SHARED}")
    try:
        try_writing(store)
    except OSError as error:
        raise ExtractError(f"it may not write to {out} ({error.strerror}); give its user the right to") from error
    return store


def _load(job: Job, stores: Sequence[Store]) -> list[Backbone]:
    every = job.load()
    backbones = [every[number] for number in job.which]
    for backbone, store in zip(backbones, stores, strict=True):
        if (backbone.weights_sha256, backbone.layer) != (store.spec.weights, store.spec.layer):
            raise ExtractError(
                f"its weights of {backbone.name} ({backbone.weights_source}) have the sha256 "
                f"{backbone.weights_sha256[:12]}..., and those of the run {store.spec.weights[:12]}...; give it the "
                "same file"
            )
    return backbones
