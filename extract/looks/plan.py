"""`--plan`: what a run would take, measured on a sample of its videos, before anything is written."""

import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...cache.index import DONE, FAILED, MISSING, VideoIndex
from ...cache.packing import row_bytes
from ...cache.place import StorePath
from ...cache.record import StoreHeader
from ...cache.room import free_bytes, lacking_room
from ..backbones.base import Backbone
from ..datasets.links import Links
from ..datasets.videos import VideoSet
from ..decoding.decode import TIMEOUT_S
from ..engine.layout import store_header, store_layout
from ..engine.opening import open_checked, require_same_device, require_same_layout
from ..engine.shard_work import forward_threads
from ..engine.space import REMEDY, beside_bytes, bytes_to_come
from ..engine.surroundings import look_around
from ..engine.todo import rows_to_do
from ..machines.devices import device_name, resolve_devices
from ..recipe import check_flip, make_spec
from .measure import Sample, measure

SECONDS = 60.0  # of measuring, at most
_LEAST, _MOST = 64, 512  # videos of a sample: a quarter of what is missing, within these


@dataclass(frozen=True, kw_only=True)
class StorePlan:
    """One store. out: its path; done, failed, to_do: rows; cubes_bytes: of the finished store, exactly unless it is
    compressed; beside_bytes: of its index, exactly, and records, about; to_come: bytes that must be free for the run;
    free: bytes on its disk, None in object storage."""

    out: str
    done: int
    failed: int
    to_do: int
    cubes_bytes: int
    beside_bytes: int
    to_come: int
    free: int | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """stores; to_do: videos that some store lacks; seconds: that they take, 0.0 without any; bound: the stage that the
    run will wait for most, '' without a sample; device: the one that was measured; devices: how many the run has;
    memory: bytes of clips and shards at most; peak: bytes of this process so far, with the network; lack: '' or which
    disk is too small; sample: None where nothing is to be done."""

    stores: tuple[StorePlan, ...]
    to_do: int
    seconds: float
    bound: str
    device: str
    devices: int
    memory: int
    peak: int
    lack: str
    sample: Sample | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"hours": self.seconds / 3600}


@dataclass(frozen=True)
class _Survey:
    """The stores as they are. headers: theirs, or those they would get; states, rows: of all rows, and those to do;
    for each store."""

    outs: Sequence[StorePath]
    headers: list[StoreHeader]
    states: list[list[int]]
    rows: list[list[int]]
    to_come: list[int]

    @property
    def every(self) -> list[int]:
        """Rows that some store lacks, rising."""
        return sorted(set[int]().union(*self.rows))

    @property
    def batches(self) -> int:
        """Forward passes: a batch never crosses a shard, and costs as much with one row as with all."""
        of, batch = self.headers[0].shard_rows, self.headers[0].batch
        return len({(row // of, row % of // batch) for row in self.every})

    @property
    def written(self) -> int:
        """Rows of the shards that will be written: each is written whole."""
        of = self.headers[0].shard_rows
        return of * len({row // of for row in self.every})


def plan_layers(
    videos: VideoSet,
    backbones: Sequence[Backbone],
    *,
    outs: Sequence[StorePath],
    views: Sequence[str] = ("plain",),
    sampling: str = "even",
    precision: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    queue: int | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
    on_failure: str = "skip",
    timeout_s: float = TIMEOUT_S,
    shard_rows: int | None = None,
    compress: str = "",
    store_dtype: str = "float16",
    batch: int = 8,
    allow_flip: bool = False,
    seconds: float = SECONDS,
) -> Plan:
    """What `extract_layers` with the same arguments would take. Nothing is written, locked or made.

    device: of several, the first is measured, alone; seconds: of measuring, at most. Raises what `extract_layers`
    raises on wrong input or a store of other cubes.
    """
    check_flip(views, videos, allow_flip=allow_flip)
    targets = resolve_devices(device)
    target = targets[0]
    here = look_around(str(target), precision, backbones[0].frames)
    made = {"views": views, "sampling": sampling, "store_dtype": store_dtype}
    specs = [make_spec(b, **made, precision=here.precision) for b in backbones]
    layout = store_layout(specs, shard_rows=shard_rows, compress=compress, batch=batch, threads=here.threads)
    headers = [store_header(videos, spec, {}, layout) for spec in specs]
    retry_failed = retry_failed or on_failure == "stop"
    survey = _survey(videos, headers, outs, device_name(target), limit=limit, retry_failed=retry_failed)
    how = {"device": target, "workers": workers, "queue": queue, "timeout_s": timeout_s, "limit_s": seconds}
    sample = _rehearse(survey, backbones, videos, **how) if survey.every else None
    return _plan(survey, sample, videos.index, device_name(target), len(targets))


def _survey(
    videos: VideoSet,
    headers: Sequence[StoreHeader],
    outs: Sequence[StorePath],
    device: str,
    *,
    limit: int | None,
    retry_failed: bool,
) -> _Survey:
    pairs = list(zip(outs, headers, strict=True))
    stores = [open_checked(out, header=h, index=videos.index) if out.exists() else None for out, h in pairs]
    there = [store for store in stores if store is not None]
    for store in there:
        require_same_device(store, [device])
    if there:
        require_same_layout(there)
    rows = [rows_to_do(videos, store, limit=limit, retry_failed=retry_failed) for store in stores]
    return _Survey(
        outs,
        [h if store is None else store.header for store, h in zip(stores, headers, strict=True)],
        [[MISSING] * len(videos.index) if store is None else store.states().tolist() for store in stores],
        rows,
        [bytes_to_come(store, h, videos.index, todo) for store, h, todo in zip(stores, headers, rows, strict=True)],
    )


def _rehearse(survey: _Survey, backbones: Sequence[Backbone], videos: VideoSet, **how: Any) -> Sample:
    busy = [number for number, todo in enumerate(survey.rows) if todo]
    with forward_threads(survey.headers[0].threads):
        return measure(
            [survey.headers[number] for number in busy],
            [backbones[number] for number in busy],
            outs=[survey.outs[number] for number in busy],
            index=videos.index,
            rows=survey.every,
            root=videos.root,
            links=Links(videos.root, videos.follow_links),
            most=min(max(len(survey.every) // 4, _LEAST), _MOST),
            **how,
        )


def _plan(survey: _Survey, sample: Sample | None, index: VideoIndex, device: str, devices: int) -> Plan:
    n, lack = len(index), lacking_room(list(zip(survey.outs, survey.to_come, strict=True)))
    stores = tuple(
        StorePlan(
            out=str(out),
            done=states.count(DONE),
            failed=states.count(FAILED),
            to_do=len(rows),
            cubes_bytes=round(n * row_bytes(header.spec) * (sample.squeezed if sample else 1)),
            beside_bytes=beside_bytes(header, index),
            to_come=to_come,
            free=free_bytes(out),
        )
        for out, header, states, rows, to_come in zip(
            survey.outs, survey.headers, survey.states, survey.rows, survey.to_come, strict=True
        )
    )
    header = survey.headers[0]
    return Plan(
        stores=stores,
        to_do=len(survey.every),
        seconds=0.0
        if sample is None
        else predict(sample, survey.batches, videos=len(survey.every), written=survey.written, header=header),
        bound="" if sample is None else sample.bound,
        device=device,
        devices=devices,
        memory=memory_bound(survey.headers, 0 if sample is None else sample.most_in_flight),
        peak=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        lack=f"{lack}; {REMEDY}" if lack else "",
        sample=sample,
    )


def predict(sample: Sample, batches: int, *, videos: int, written: int, header: StoreHeader) -> float:
    """Seconds that so many videos take in so many forward passes. written: rows of the shards that are written."""
    if videos <= sample.videos:
        return sample.seconds
    committed, begun = sample.started
    # While a batch is being written, the next one goes through the network already.
    ahead = committed + header.batch
    passes = batches - ahead / header.batch
    steady = max((videos - ahead) * sample.pace, passes * sample.forward, (written - header.shard_rows) * sample.write)
    return begun + max(steady, 0.0) + sample.write * min(header.shard_rows, videos)


def memory_bound(headers: Sequence[StoreHeader], most_in_flight: int) -> int:
    """Bytes of what a run holds beside the network and its activations: decoded clips in flight, one batch of clips,
    and two shards of each store (one is filled, one is written)."""
    spec = headers[0].spec
    clip = len(spec.views) * spec.frames * spec.size * spec.size * 3
    shards = sum(2 * header.shard_rows * row_bytes(header.spec) for header in headers)
    return (most_in_flight + headers[0].batch) * clip + shards
