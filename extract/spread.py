"""Where the shards of a run are done: in this process, in one process for each device, or on a cluster."""

import os
import uuid
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import torch

from ..cache.store import Store
from .backbones.base import Backbone
from .cluster import Cluster
from .devices import kinds_of, resolve_device, resolve_devices
from .errors import ExtractError
from .local_processes import LocalProcesses
from .meter import Meter
from .pipeline import Pipeline
from .place import Place, look_around, processes_by_host, versions_here
from .tasks import Job, Load, Outstanding, ShardDone, ShardTask
from .timer import Timer, bound_of

_SAMPLE = 3  # videos that every worker is asked for


class Spread:
    """The places that a run is done in.

    devices: as `--devices`; cluster: address of a scheduler, or ''; load: what makes the backbones in another process;
    precision, frames: of the run, as every place has to resolve them. ExtractError for devices that are not there, and
    for several processes without `load`. Close it.
    """

    def __init__(self, *, devices: str, cluster: str, load: Load | None, precision: str, frames: int) -> None:
        self._load, self._cluster = load, None
        if cluster:
            self._device = devices
            self._begin_cluster(cluster, devices, precision, frames)
            return
        self._devices = _local_devices(devices, several=load is not None)
        self.places = [look_around(str(device), precision, frames) for device in self._devices]

    def _begin_cluster(self, cluster: str, devices: str, precision: str, frames: int) -> None:
        if "," in devices:
            raise ExtractError(
                f"devices ({devices}) must be one device with --cluster: a worker computes on one; start more workers"
            )
        self._require_load("--cluster")
        self._cluster = Cluster(cluster)
        try:
            self.places: list[Place] = self._cluster.places(devices, precision, frames)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the cluster."""
        if self._cluster is not None:
            self._cluster.close()

    @property
    def devices(self) -> list[str]:
        """The devices as records name them, each once."""
        return list(dict.fromkeys(place.device for place in self.places))

    def run(
        self,
        stores: Sequence[Store],
        tasks: Sequence[ShardTask],
        backbones: Sequence[Backbone],
        *,
        which: Sequence[int],
        root: Path,
        workers: int | None,
        queue: int | None,
        mixed: bool,
        timer: Timer,
        progress: bool,
    ) -> int:
        """Do the shards of `tasks`. Returns the number of decoders. The caller holds the stores' locks.

        stores: that lack rows; which: their numbers among all layers, and backbones: those of all layers; mixed:
        whether workers may be of several kinds.
        """
        decoders, here = 0, self._cluster is None and len(self._devices) == 1
        with Meter(sum(len(task.every) for task in tasks), shown=progress) as meter:
            if here:
                chosen = [backbones[number] for number in which]
                shards = self._here(stores, tasks, chosen, root=root, workers=workers, queue=queue, meter=meter)
            else:
                job = self._job(stores, tasks, which, root=root, workers=workers, queue=queue, mixed=mixed)
                shards = self._elsewhere(job, stores, tasks)
            with closing(shards) as finished:
                for done in finished:
                    timer.add(done.seconds)
                    decoders = max(decoders, done.decoders)
                    if not here:
                        meter.tell(done.tried, done.failed, bound_of(timer.seconds))
        return decoders * len(self.places)

    def _here(
        self,
        stores: Sequence[Store],
        tasks: Sequence[ShardTask],
        backbones: Sequence[Backbone],
        *,
        root: Path,
        workers: int | None,
        queue: int | None,
        meter: Meter,
    ) -> Generator[ShardDone]:
        """In this process."""
        for store in stores:
            store.attempts().clear()  # whoever still works for an earlier run gives up
        threads = torch.get_num_threads()
        torch.set_num_threads(stores[0].header.threads)
        try:
            pipeline = Pipeline(stores, backbones, root=root, device=self._devices[0], workers=workers, queue=queue)
            with closing(pipeline.run(tasks, tell=meter.tell)) as finished:
                yield from finished
        finally:
            torch.set_num_threads(threads)

    def _elsewhere(self, job: Job, stores: Sequence[Store], tasks: Sequence[ShardTask]) -> Generator[ShardDone]:
        """In other processes, which write to the stores themselves."""
        marks, todo = stores[0].attempts(), Outstanding(stores, tasks)
        for store in stores:
            store.attempts().clear()
        marks.open_run(job.run)
        team = self._cluster or LocalProcesses(job, self._devices, todo)
        try:
            if isinstance(team, Cluster):
                team.check(job)
                yield from team.run(job, todo)
            else:
                yield from team.run()
        finally:
            marks.clear()  # whoever is still at work gives up
            team.stop()
            for store in stores:
                store.refresh()

    def _job(
        self,
        stores: Sequence[Store],
        tasks: Sequence[ShardTask],
        which: Sequence[int],
        *,
        root: Path,
        workers: int | None,
        queue: int | None,
        mixed: bool,
    ) -> Job:
        firsts = [next(iter(task.paths.values())) for task in tasks[:: max(len(tasks) // _SAMPLE, 1)]]
        return Job(
            run=uuid.uuid4().hex,
            root=root.resolve(),
            outs=tuple(store.path.resolve() for store in stores),
            digests=tuple(store.digest for store in stores),
            load=self._require_load("several devices"),
            which=tuple(which),
            device=self._device if self._cluster is not None else "",
            kind="" if mixed else kinds_of(self.devices)[0],
            workers=workers,
            queue=queue,
            sharing=processes_by_host(self.places),
            versions=versions_here(),
            sample=tuple(path for path in firsts[:_SAMPLE] if os.path.lexists(root / path)),
        )

    def _require_load(self, wanted_by: str) -> Load:
        if self._load is None:
            raise ExtractError(
                f"load (None) must make the backbones where they are needed, for {wanted_by}: pass "
                "load=functools.partial(load_layers, NAME, ...) beside them"
            )
        return self._load


def _local_devices(devices: str, *, several: bool) -> list[torch.device]:
    """One, or several where `load` was given; `auto` takes one GPU without it."""
    if devices == "auto" and not several:
        return [resolve_device(devices)]
    found = resolve_devices(devices)
    if len(found) > 1 and not several:
        raise ExtractError(
            f"devices ({devices}) need the argument load, which makes the backbones in each process: pass "
            "load=functools.partial(load_layers, NAME, ...) beside them"
        )
    return found
