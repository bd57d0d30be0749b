"""A run on an existing Dask cluster: who is there, whether they can work for it, and their shards.

Dask decides which worker does which shard, and gives the shards of a lost one to others. A worker does one shard at a
time: each takes the whole of the resource `mastaf`, of which a worker is started with one.
"""

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from ...cache.checks import brief
from ...cache.console import say
from ...cache.errors import StoppedError
from ...cache.extras import require_extra
from ..datasets.naming import some
from ..engine.surroundings import Place, look_around
from ..engine.tasks import Job, Outstanding, ShardDone
from ..errors import ExtractError
from .deaths import Deaths
from .worker import GivenUpError, do_shards, forget, refusal

RESOURCE = "mastaf"
SCHEMES = ("tcp", "tls", "ws", "wss", "ucx")  # of Dask's addresses
ANSWER_S = 30  # for a scheduler to answer, and for a first worker to come
PATIENCE_S = 300  # without any worker, in the middle of a run
_AHEAD = 64  # shards that are with the scheduler, at least; so workers that join find work


class Cluster:
    """The workers of the scheduler at `address` that offer the resource `mastaf`. Close it to let go of them.

    StoppedError when no scheduler answers or no worker comes, ExtractError when none offers the resource.
    """

    def __init__(self, address: str, *, answer_s: float | None = None) -> None:
        require_extra("distributed", extra="cluster", wanted_by="--cluster")
        _check_address(address)
        self.address = address
        self._client: Any = None
        self._quiet = ExitStack()
        self._quiet.enter_context(_quiet_dask())
        try:
            say(f"connecting to {address}")
            self._client = _connect(address, answer_s or ANSWER_S)
            self.workers = self._find_workers(answer_s or ANSWER_S)
            self._known, self._absent = set(self.workers), set[str]()
        except BaseException:
            self.close()
            raise

    def places(self, device: str, precision: str, frames: int) -> list[Place]:
        """What each worker is. ExtractError naming one that cannot say."""
        return self._ask(look_around, device, precision, frames)

    def check(self, job: Job) -> None:
        """ExtractError naming a worker that cannot work for the job, and why."""
        for reason in self._ask(refusal, job):
            if reason:
                raise ExtractError(reason)

    def run(self, job: Job, todo: Outstanding) -> Generator[ShardDone]:
        """Yield the shards of `todo` as they are committed, in any order."""
        from distributed import KilledWorker

        deaths = Deaths(len(self.workers))
        while todo.tasks():
            try:
                for done in self._pass(job, todo):
                    deaths.progress()
                    todo.finished(done)
                    yield done
            except (KilledWorker, GivenUpError) as error:
                shards = [task.shard for task in todo.tasks()]
                yield from todo.look(shards)
                if todo.found_culprits(shards):
                    deaths.progress()
                else:
                    deaths.one_more(type(error).__name__)

    def stop(self) -> None:
        """Wait until no worker is at work any more; whoever calls has told them, at the stores' marks, to end."""
        with suppress(OSError):  # a scheduler that is gone cannot be asked
            self._client.run(forget, workers=self._present(), on_error="ignore")

    def close(self) -> None:
        """Leave the cluster as it was found."""
        if self._client is not None:
            self._client.close()
        self._quiet.close()

    def _pass(self, job: Job, todo: Outstanding) -> Generator[ShardDone]:
        """The shards that are left, until the end or until Dask gives one up."""
        from joblib import Parallel, delayed

        from .dask_backend import ListeningDask

        backend = ListeningDask(client=self._client, slots=len(self.workers), resources={RESOURCE: 1})
        options: dict[str, Any] = {"batch_size": 1, "pre_dispatch": max(2 * len(self.workers), _AHEAD)}
        parallel = Parallel(n_jobs=-1, backend=backend, return_as="generator_unordered", **options)
        over = threading.Event()
        threading.Thread(target=self._watch, args=(backend, over), daemon=True).start()
        results: Any = parallel(delayed(do_shards)(job, [task]) for task in todo.tasks())
        try:
            for finished in results:
                yield from finished
        finally:
            over.set()
            results.close()

    def _watch(self, backend: Any, over: threading.Event) -> None:
        """Say which workers were lost, and end the pass when nobody is there to do it."""
        without = 0.0
        every = min(PATIENCE_S / 10, 5)
        while not over.wait(every):
            with suppress(OSError):
                present = set(self._present())
                without = 0.0 if present else without + every
                self._tell_lost(present)
            if without >= PATIENCE_S:
                backend.give_up(
                    StoppedError(
                        f"cluster {self.address} has had no worker for {without:.0f} s; start some ({self._how()}), "
                        "and run the same command again to continue"
                    )
                )
                return

    def _tell_lost(self, present: set[str]) -> None:
        """Say once which workers are gone: absent at two looks, since the client's list may be cut short at one."""
        absent = self._known - present
        lost = absent & self._absent
        if lost:
            say(f"workers were lost, and their shards are done again: {some(sorted(lost))}")
        self._known, self._absent = (self._known | present) - lost, absent - lost

    def _find_workers(self, answer_s: float) -> list[str]:
        if not self._info():
            say(f"waiting for a worker with --resources {RESOURCE}=1")
        try:
            self._client.wait_for_workers(1, timeout=answer_s)
        except TimeoutError as error:
            raise StoppedError(f"cluster {self.address} has no worker; start some: {self._how()}") from error
        every, able = list(self._info()), self._present()
        if not able:
            raise ExtractError(
                f"cluster {self.address} has {len(every)} workers, but none with the resource '{RESOURCE}', by which "
                f"each does one shard at a time; start them so: {self._how()}"
            )
        if len(able) < len(every):
            idle = sorted(set(every) - set(able))
            say(f"workers without the resource '{RESOURCE}' are not used: {len(idle)} ({some(idle)})")
        return able

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `function` returns in each worker. ExtractError naming one where it fails."""
        answers = self._client.run(function, *arguments, workers=self.workers, on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, BaseException):
                raise ExtractError(
                    f"worker {worker} cannot work for this run ({type(answer).__name__}: {answer}); mend or stop it"
                ) from answer
        return list(answers.values())

    def _info(self) -> dict[str, Any]:
        return self._client.scheduler_info(n_workers=-1)["workers"]

    def _present(self) -> list[str]:
        return [name for name, about in self._info().items() if about["resources"].get(RESOURCE)]

    def _how(self) -> str:
        return f"dask worker {self.address} --nthreads 1 --resources {RESOURCE}=1"


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Keep this process's lines of Dask about lost workers, results and connections from whoever reads ours."""
    import distributed  # makes its loggers

    ours = (distributed.__name__, "tornado", "asyncio")
    names = [name for name in [*logging.root.manager.loggerDict, *ours] if name.split(".")[0] in ours]
    before = {name: logging.getLogger(name).level for name in names}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _check_address(address: str) -> None:
    """ExtractError unless the address has a host and a port: a client would look for them for a minute, and leave a
    traceback. A scheme may be left out."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        complete = parts.scheme in SCHEMES and parts.hostname and parts.port and not parts.path.strip("/")
    except ValueError:  # a port that is no number, or brackets that do not close
        complete = False
    if not complete:
        raise ExtractError(
            f"cluster ({brief(address)}) must be an address such as tcp://host:8786: one of {', '.join(SCHEMES)}, a "
            "host and a port"
        )


def _connect(address: str, answer_s: float) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout=answer_s, set_as_default=False)
    except ValueError as error:
        raise ExtractError(f"cluster ({address}) must be an address such as tcp://host:8786 ({error})") from error
    except (OSError, TimeoutError) as error:
        raise StoppedError(
            f"cluster ({address}) does not answer; see that its scheduler runs (dask scheduler) and can be reached"
        ) from error
