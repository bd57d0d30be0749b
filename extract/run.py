"""Extraction: videos -> clips -> cubes -> shards of a store. The unit of work is a shard."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import torch

from ..cache.console import unknown_name
from ..cache.label_overlap import LabelOverlap
from ..cache.packing import default_shard_rows
from ..cache.place import StorePath
from ..cache.record import StoreHeader
from ..cache.spec import FeatureSpec
from ..cache.store import Store, store_class, writer_lock
from .backbones.base import Backbone
from .backbones.check import check_network
from .decode import TIMEOUT_S
from .errors import ExtractError
from .links import Links
from .meter import Meter
from .opening import open_or_create, require_same_device, require_same_layout
from .pipeline import Pipeline
from .provenance import provenance
from .recipe import check_flip, device_name, make_spec, resolve_device
from .summary import ExtractSummary, summarise
from .tasks import make_tasks
from .timer import Timer
from .todo import rows_to_do
from .videos import VideoSet

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
    workers: int | None = None,
    queue: int | None = None,
    limit: int | None = None,
    retry_failed: bool = False,
    on_failure: str = "skip",
    timeout_s: float = TIMEOUT_S,
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
    in the others only the missing rows are; a run that was stopped and one that was not give the same bits. workers,
    queue: decoding threads and decoded clips ahead, else chosen by measuring; limit: that many videos, spread over
    splits and classes; retry_failed: also rows that failed before (those whose video has changed since are tried again
    anyway); on_failure: `skip`, or `stop` to end the run behind the first failed row, earlier failures being tried
    again; timeout_s: for decoding one video; shard_rows, compress, batch, threads: of new stores, which keep their own.
    command: for the provenance. overlap: a finding on the labels that the weights saw, which the stores keep in place
    of an earlier one.

    Returns a summary for each store; their seconds are those of the whole pass. Raises ExtractError or CacheError on
    wrong input or a store of other cubes, StoppedError or OSError when the machine stops it; what was written stays.
    """
    if not backbones or len(set(outs)) != len(backbones):
        raise ExtractError(f"outs ({len(set(outs))}) must be one store for each of {len(backbones)} layers")
    if on_failure not in ON_FAILURE:
        raise ExtractError(unknown_name("on_failure", on_failure, ON_FAILURE))
    for out in outs:
        store_class(out)  # a wrong suffix is an error before a lock file is left beside it
    check_flip(views, videos, allow_flip=allow_flip)
    target = resolve_device(device)
    name = device_name(target)
    specs = [make_spec(b, views=views, sampling=sampling, precision=precision, device=target) for b in backbones]
    layout = _layout(specs, shard_rows=shard_rows, compress=compress, batch=batch, threads=threads)
    if not all(out.exists() for out in outs):
        check_network(backbones)  # before there is a store of cubes that it does not give
    timer, broken = Timer(), None
    with ExitStack() as locks, timer.measure("total"):
        stores: list[Store] = []
        for backbone, spec, out in zip(backbones, specs, outs, strict=True):
            about = provenance(videos, backbone, device=name, command=command, allow_flip=allow_flip)
            locks.enter_context(writer_lock(out))
            stores.append(open_or_create(out, header=_header(videos, spec, about, layout), index=videos.index))
            require_same_device(stores[-1], name)
            if overlap is not None:
                stores[-1].write_label_overlap(overlap)
        require_same_layout(stores)
        before = [store.states().tolist() for store in stores]
        rows = [
            rows_to_do(store, states, videos, limit=limit, retry_failed=retry_failed or on_failure == "stop")
            for store, states in zip(stores, before, strict=True)
        ]
        decoders = 0
        if any(rows):
            decoders, broken = _extract_rows(
                stores,
                rows,
                videos,
                backbones,
                target,
                timer,
                progress=progress,
                workers=workers,
                queue=queue,
                timeout_s=timeout_s,
                stop_on_failure=on_failure == "stop",
            )
    return [
        summarise(store, states, done, timer.seconds, decoders=decoders, stopped_at=broken)
        for store, states, done in zip(stores, before, rows, strict=True)
    ]


def _layout(
    specs: Sequence[FeatureSpec], *, shard_rows: int | None, compress: str, batch: int, threads: int | None
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
        "threads": threads or torch.get_num_threads(),
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


def _extract_rows(
    stores: Sequence[Store],
    rows: Sequence[Sequence[int]],
    videos: VideoSet,
    backbones: Sequence[Backbone],
    target: torch.device,
    timer: Timer,
    *,
    progress: bool,
    **how: Any,
) -> tuple[int, int | None]:
    """Extract each store's `rows` shard by shard; only the layers of stores that lack rows are computed. how: for the
    Pipeline. Returns the number of decoders, and the failed row that ended the run, if one did."""
    busy = [number for number, todo in enumerate(rows) if todo]
    lacking = [stores[number] for number in busy]
    tasks = list(make_tasks(lacking, [rows[number] for number in busy], videos.index.paths))
    threads = torch.get_num_threads()
    torch.set_num_threads(stores[0].header.threads)
    decoders, broken = 0, None
    try:
        chosen = [backbones[number] for number in busy]
        links = Links(videos.root, videos.follow_links)
        pipeline = Pipeline(lacking, chosen, root=videos.root, device=target, links=links, **how)
        meter = Meter(sum(len(task.every) for task in tasks), shown=progress)
        with meter, closing(pipeline.run(tasks, tell=meter.tell)) as finished:
            for done in finished:
                timer.add(done.seconds)
                decoders, broken = done.decoders, done.stopped_at
    finally:
        torch.set_num_threads(threads)
    return decoders, broken
