"""Extraction: videos -> clips -> cubes -> shards of a store. The unit of work is a shard."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from ..cache.attempts import Attempts
from ..cache.console import unknown_name
from ..cache.label_overlap import LabelOverlap
from ..cache.place import StorePath
from ..cache.record import StoreHeader
from ..cache.store import Store, store_class, writer_lock
from .backbones.base import Backbone
from .backbones.inference import reference
from .datasets.videos import VideoSet
from .decoding.decode import TIMEOUT_S
from .engine.layout import store_header, store_layout
from .engine.opening import open_or_create, require_same_device, require_same_layout
from .engine.space import require_space
from .engine.surroundings import default_threads, one_precision
from .engine.tasks import Load, make_tasks
from .engine.timer import Timer
from .engine.todo import rows_to_do
from .errors import ExtractError
from .machines.spread import Spread
from .provenance import provenance
from .recipe import check_flip, make_spec
from .summary import ExtractSummary, summarise

ON_FAILURE = ("skip", "stop")


def extract(videos: VideoSet, backbone: Backbone, *, out: StorePath, **options: Any) -> ExtractSummary:
    """`extract_layers` for one backbone and one store, with its keyword arguments."""
    return extract_layers(videos, [backbone], outs=[out], **options)[0]


def extract_layers(
    videos: VideoSet,
    backbones: Sequence[Backbone],
    *,
    outs: Sequence[StorePath],
    views: Sequence[str] = ("plain",),
    sampling: str = "even",
    precision: str = "auto",
    device: str = "auto",
    cluster: str = "",
    load: Load | None = None,
    allow_mixed_devices: bool = False,
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
    threads: int | None = None,
    allow_flip: bool = False,
    progress: bool = True,
    command: str = "",
    overlap: LabelOverlap | None = None,
) -> list[ExtractSummary]:
    """Extract the cubes of `videos` into the stores `outs`, or finish what an earlier run left of them.

    backbones: layers of one network (see `Backbone.at`), computed in one pass, each into a store of its own. A video
    that cannot be used is a failed row with its reason, and the run goes on. Finished shards are not done again, and
    in the others only the missing rows are; a run that was stopped and one that was not give the same bits. device: as
    `--devices`, several with a process for each; cluster: the address of a Dask scheduler, whose workers do the work;
    load: makes the backbones in another process, and can be pickled (`functools.partial(load_layers, ...)`);
    allow_mixed_devices: of several kinds, whose cubes differ in their last bits. workers, queue: decoding threads and
    decoded clips ahead in each process, else chosen by measuring; limit: that many videos, spread over splits and
    classes; retry_failed: also rows that failed before (those whose video has changed since are tried again anyway);
    on_failure: `skip`, or `stop` to end the run behind the first failed row, earlier failures being tried again;
    timeout_s: for decoding one video; store_dtype: of the cubes in the files, float16 or int8; shard_rows, compress,
    batch, threads: of new stores, which keep their own. command: for the provenance. overlap: a finding on the labels
    that the weights saw, which the stores keep in place of an earlier one.

    Returns a summary for each store; their seconds are those of the whole pass, summed over processes. Raises
    ExtractError or CacheError on wrong input or a store of other cubes, StoppedError or OSError when the machine stops
    it; what was written stays.
    """
    if not backbones or len(set(outs)) != len(backbones):
        raise ExtractError(f"outs ({len(set(outs))}) must be one store for each of {len(backbones)} layers")
    if on_failure not in ON_FAILURE:
        raise ExtractError(unknown_name("on_failure", on_failure, ON_FAILURE))
    for out in outs:
        store_class(out)  # a wrong suffix is an error before a lock file is left beside it
    check_flip(views, videos, allow_flip=allow_flip)
    stop = on_failure == "stop"
    asked = {"limit": limit, "retry_failed": retry_failed or stop}
    timer = Timer()
    with ExitStack() as held, timer.measure("total"):
        spread = Spread(devices=device, cluster=cluster, load=load, precision=precision, frames=backbones[0].frames)
        held.callback(spread.close)
        chosen = one_precision(spread.places)
        made = {"views": views, "sampling": sampling, "store_dtype": store_dtype}
        specs = [make_spec(b, **made, precision=chosen) for b in backbones]
        threads = threads or default_threads(spread.places)
        layout = store_layout(specs, shard_rows=shard_rows, compress=compress, batch=batch, threads=threads)
        exact = None
        if not all(out.exists() for out in outs):
            exact = reference(backbones, spread.here)  # before there is a store of cubes that the network does not give
        about = {"device": ", ".join(spread.devices), "command": command, "allow_flip": allow_flip}
        headers = [
            store_header(videos, spec, provenance(videos, backbone, **about), layout)
            for backbone, spec in zip(backbones, specs, strict=True)
        ]
        require_space(outs, headers, videos, **asked)
        stores = _open(outs, headers, videos, held, None if allow_mixed_devices else spread.devices, overlap)
        before = [store.states().tolist() for store in stores]
        rows = [rows_to_do(videos, store, **asked) for store in stores]
        busy = [number for number, todo in enumerate(rows) if todo]  # only their layers are computed
        if busy:
            lacking = [stores[number] for number in busy]
            tasks = list(make_tasks(lacking, [rows[number] for number in busy], videos.index.paths))
            how = {"workers": workers, "queue": queue, "timeout_s": timeout_s, "stop_on_failure": stop}
            how |= {"mixed": allow_mixed_devices, "progress": progress, "exact": exact}
            spread.run(lacking, tasks, backbones, which=busy, videos=videos, timer=timer, **how)
    return [
        summarise(store, states, done, timer.seconds, decoders=spread.decoders, stopped_at=spread.stopped_at)
        for store, states, done in zip(stores, before, rows, strict=True)
    ]


def _open(
    outs: Sequence[StorePath],
    headers: Sequence[StoreHeader],
    videos: VideoSet,
    held: ExitStack,
    devices: Sequence[str] | None,
    overlap: LabelOverlap | None,
) -> list[Store]:
    """The stores, new or begun before, and their locks. devices: that their shards must be of; None for any."""
    stores: list[Store] = []
    for header, out in zip(headers, outs, strict=True):
        held.enter_context(writer_lock(out))
        stores.append(open_or_create(out, header=header, index=videos.index))
        Attempts(stores[-1].path).clear()  # whoever still works for an earlier run gives up
        if devices is not None:
            require_same_device(stores[-1], devices)
        if overlap is not None:
            stores[-1].write_label_overlap(overlap)
    require_same_layout(stores)
    return stores
