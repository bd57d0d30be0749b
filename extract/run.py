"""Extraction: videos -> clips -> cubes -> shards of a store. The unit of work is a shard."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..cache.index import FAILED, MISSING
from ..cache.label_overlap import LabelOverlap
from ..cache.packing import default_shard_rows
from ..cache.record import StoreHeader
from ..cache.spec import FeatureSpec
from ..cache.store import Store, store_class, writer_lock
from .backbones.base import Backbone
from .backbones.check import check_network
from .errors import ExtractError
from .limit import spread_rows
from .opening import open_or_create, require_same_device, require_same_layout
from .place import default_threads, one_precision
from .provenance import provenance
from .recipe import check_flip, make_spec
from .spread import Spread
from .summary import ExtractSummary, summarise
from .tasks import Load, make_tasks
from .timer import Timer
from .videos import VideoSet


def extract(videos: VideoSet, backbone: Backbone, *, out: Path, **options: Any) -> ExtractSummary:
    """`extract_layers` for one backbone and one store, with its keyword arguments."""
    return extract_layers(videos, [backbone], outs=[out], **options)[0]


def extract_layers(
    videos: VideoSet,
    backbones: Sequence[Backbone],
    *,
    outs: Sequence[Path],
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
    shard_rows: int | None = None,
    compress: str = "",
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
    classes; retry_failed: also rows that failed before; shard_rows, compress, batch, threads: of new stores, which
    keep their own. command: for the provenance. overlap: a finding on the labels that the weights saw, which the
    stores keep in place of an earlier one.

    Returns a summary for each store; their seconds are those of the whole pass, summed over processes. Raises
    ExtractError or CacheError on wrong input or a store of other cubes, StoppedError or OSError when the machine stops
    it; what was written stays.
    """
    if not backbones or len(set(outs)) != len(backbones):
        raise ExtractError(f"outs ({len(set(outs))}) must be one store for each of {len(backbones)} layers")
    for out in outs:
        store_class(out)  # a wrong suffix is an error before a lock file is left beside it
    check_flip(views, videos, allow_flip=allow_flip)
    timer = Timer()
    with ExitStack() as held, timer.measure("total"):
        spread = Spread(devices=device, cluster=cluster, load=load, precision=precision, frames=backbones[0].frames)
        held.callback(spread.close)
        chosen = one_precision(spread.places)
        specs = [make_spec(b, views=views, sampling=sampling, precision=chosen) for b in backbones]
        threads = threads or default_threads(spread.places)
        layout = _layout(specs, shard_rows=shard_rows, compress=compress, batch=batch, threads=threads)
        if not all(out.exists() for out in outs):
            check_network(backbones)  # before there is a store of cubes that it does not give
        stores: list[Store] = []
        for backbone, spec, out in zip(backbones, specs, outs, strict=True):
            where = ", ".join(spread.devices)
            about = provenance(videos, backbone, device=where, command=command, allow_flip=allow_flip)
            held.enter_context(writer_lock(out))
            stores.append(open_or_create(out, header=_header(videos, spec, about, layout), index=videos.index))
            if not allow_mixed_devices:
                require_same_device(stores[-1], spread.devices)
            if overlap is not None:
                stores[-1].write_label_overlap(overlap)
        require_same_layout(stores)
        before = [store.states().tolist() for store in stores]
        rows = [
            _rows_to_do(store, states, limit=limit, retry_failed=retry_failed)
            for store, states in zip(stores, before, strict=True)
        ]
        decoders = 0
        busy = [number for number, todo in enumerate(rows) if todo]  # only their layers are computed
        if busy:
            lacking = [stores[number] for number in busy]
            decoders = spread.run(
                lacking,
                list(make_tasks(lacking, [rows[number] for number in busy], videos.index.paths)),
                backbones,
                which=busy,
                root=videos.root,
                workers=workers,
                queue=queue,
                mixed=allow_mixed_devices,
                timer=timer,
                progress=progress,
            )
    return [
        summarise(store, states, done, timer.seconds, decoders=decoders)
        for store, states, done in zip(stores, before, rows, strict=True)
    ]


def _layout(
    specs: Sequence[FeatureSpec], *, shard_rows: int | None, compress: str, batch: int, threads: int
) -> dict[str, Any]:
    """Shards and batches of new stores, which suit the largest cubes."""
    if batch < 1:
        raise ExtractError(f"batch ({batch}) must be at least 1")
    if shard_rows is None:
        shard_rows = min(default_shard_rows(spec) for spec in specs)
        # A batch never crosses a shard, so a shard of whole batches computes no padding.
        shard_rows -= shard_rows % min(batch, shard_rows)
    return {
        "shard_rows": shard_rows,
        "compress": compress,
        "batch": min(batch, max(shard_rows, 1)),
        "threads": threads,
    }


def _header(videos: VideoSet, spec: FeatureSpec, about: dict[str, Any], layout: dict[str, Any]) -> StoreHeader:
    return StoreHeader(
        spec=spec,
        dataset=videos.name,
        split_scheme=videos.split_scheme,
        flip_keeps_class=videos.flip_keeps_class,
        coverage=videos.coverage,
        provenance=about,
        **layout,
    )


def _rows_to_do(store: Store, states: Sequence[int], *, limit: int | None, retry_failed: bool) -> list[int]:
    """Rows that are missing, and with `retry_failed` those that failed; of the limit's videos alone."""
    wanted = range(len(states)) if limit is None else spread_rows(store.index, limit)
    return [row for row in wanted if states[row] == MISSING or (retry_failed and states[row] == FAILED)]
