"""Where the shards of a run are done: in this process, in one process for each device, or on a cluster."""

import os
import uuid
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any

import torch

from ...cache.attempts import Attempts
from ...cache.place import absolute
from ...cache.store import Store
from ..backbones.base import Backbone
from ..datasets.links import Links
from ..datasets.videos import VideoSet
from ..engine.meter import Meter
from ..engine.pipeline import Pipeline
from ..engine.shard_work import forward_threads
from ..engine.surroundings import Place, look_around, processes_by_host, versions_here
from ..engine.tasks import Job, Load, Outstanding, ShardDone, ShardTask
from ..engine.timer import Timer, bound_of
from ..errors import ExtractError
from .cluster import Cluster
from .devices import kinds_of, resolve_device, resolve_devices
from .local_processes import LocalProcesses

_SAMPLE = 3  # videos that every worker is asked for


class Spread:
    """The places that a run is done in.

    devices: as `--devices`; cluster: address of a scheduler, or ''; load: what makes the backbones in another process;
    precision, frames: of the run, as every place has to resolve them. ExtractError for devices that are not there, and
    for several processes without `load`. Close it. After a run, decoders: threads that decoded; stopped_at: the failed
    row that ended it, if one did.
    """

    def __init__(self, *, devices: str, cluster: str, load: Load | None, precision: str, frames: int) -> None:
        self._load, self._cluster = load, None
        self.decoders = 0
        self.stopped_at: int | None = None
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
    def here(self) -> torch.device:
        """The device that this process computes on; with several, or a cluster, it leaves them alone."""
        return self._devices[0] if self._alone else torch.device("cpu")

    @property
    def _alone(self) -> bool:
        return self._cluster is None and len(self._devices) == 1

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
        videos: VideoSet,
        mixed: bool,
        timer: Timer,
        progress: bool,
        exact: Sequence[torch.Tensor] | None = None,
        **how: Any,
    ) -> None:
        """Do the shards of `tasks`; then `decoders` and `stopped_at` say how. The caller holds the stores' locks.

        stores: that lack rows; which: their numbers among all layers, and backbones: those of all layers; mixed:
        whether workers may be of several kinds; exact: of all layers, if known, as `inference.prepare` takes it; how:
        workers, queue, timeout_s and stop_on_failure of the Pipeline.
        """
        with Meter(sum(len(task.every) for task in tasks), shown=progress) as meter:
            if self._alone:
                known = None if exact is None else [exact[number] for number in which]
                networks = [backbones[number] for number in which]
                shards = self._here(stores, tasks, networks, videos, meter, exact=known, **how)
            else:
                job = self._job(stores, tasks, which, videos, mixed=mixed, **how)
                shards = self._elsewhere(job, stores, tasks)
            with closing(shards) as finished:
                for done in finished:
                    timer.add(done.seconds)
                    self.decoders = max(self.decoders, done.decoders * len(self.places))
                    if not self._alone:
                        meter.tell(done.tried, done.failed, bound_of(timer.seconds))
                    if done.stopped_at is not None:
                        self.stopped_at = done.stopped_at
                        break

    def _here(
        self,
        stores: Sequence[Store],
        tasks: Sequence[ShardTask],
        backbones: Sequence[Backbone],
        videos: VideoSet,
        meter: Meter,
        **how: Any,
    ) -> Generator[ShardDone]:
        """In this process."""
        links = Links(videos.root, videos.follow_links)
        with forward_threads(stores[0].header.threads):
            pipeline = Pipeline(stores, backbones, root=videos.root, device=self._devices[0], links=links, **how)
            with closing(pipeline.run(tasks, tell=meter.tell)) as finished:
                yield from finished

    def _elsewhere(self, job: Job, stores: Sequence[Store], tasks: Sequence[ShardTask]) -> Generator[ShardDone]:
        """In other processes, which write to the stores themselves."""
        marks, todo = [Attempts(store.path) for store in stores], Outstanding(stores, tasks, job.stop_on_failure)
        for of_store in marks:
            of_store.open_run(job.run)
        team = self._cluster or LocalProcesses(job, self._devices, todo)
        try:
            if isinstance(team, Cluster):
                team.check(job)
                yield from team.run(job, todo)
            else:
                yield from team.run()
        finally:
            try:
                _close(marks, job.run)  # whoever is still at work gives up
            finally:
                team.stop()
            _close(marks, job.run)  # what they marked meanwhile
            for store in stores:
                store.refresh()

    def _job(
        self,
        stores: Sequence[Store],
        tasks: Sequence[ShardTask],
        which: Sequence[int],
        videos: VideoSet,
        *,
        mixed: bool,
        **how: Any,
    ) -> Job:
        firsts = [next(iter(task.paths.values())) for task in tasks[:: max(len(tasks) // _SAMPLE, 1)]]
        return Job(
            run=uuid.uuid4().hex,
            root=videos.root.resolve(),
            outs=tuple(absolute(store.path) for store in stores),
            digests=tuple(store.digest for store in stores),
            load=self._require_load("several devices"),
            which=tuple(which),
            device=self._device if self._cluster is not None else "",
            kind="" if mixed else kinds_of(self.devices)[0],
            follow_links=videos.follow_links,
            sharing=processes_by_host(self.places),
            versions=versions_here(),
            sample=tuple(path for path in firsts[:_SAMPLE] if os.path.lexists(videos.root / path)),
            **how,
        )

    def _require_load(self, wanted_by: str) -> Load:
        if self._load is None:
            raise ExtractError(
                f"load (None) must make the backbones where they are needed, for {wanted_by}: pass "
                "load=functools.partial(load_layers, NAME, ...) beside them"
            )
        return self._load


def _close(marks: Sequence[Attempts], run: str) -> None:
    for of_store in marks:
        of_store.close_run(run)


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
