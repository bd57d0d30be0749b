"""Extraction: videos -> clips -> cubes -> shards of a store. The unit of work is a shard."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

import torch

from ..cache.console import Progress
from ..cache.index import FAILED, MISSING
from ..cache.label_overlap import LabelOverlap
from ..cache.packing import default_shard_rows
from ..cache.place import StorePath
from ..cache.record import StoreHeader
from ..cache.spec import FeatureSpec
from ..cache.store import Store, store_class, writer_lock
from .backbones.base import Backbone
from .backbones.check import check_network
from .decode import Clip, decode_clip
from .decode_ahead import decode_in_order
from .errors import ExtractError
from .limit import spread_rows
from .opening import open_or_create, require_same_device, require_same_layout
from .provenance import provenance
from .recipe import check_flip, device_name, make_spec, resolve_device
from .shard_work import Forward, ShardWork, Timer, extract_rows
from .summary import ExtractSummary, summarise
from .videos import VideoSet
from .workers import default_workers


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
    in the others only the missing rows are; a run that was stopped and one that was not give the same bits. limit:
    that many videos, spread over splits and classes; retry_failed: also rows that failed before; shard_rows,
    compress, batch, threads: of new stores, which keep their own. command: for the provenance. overlap: a finding on
    the labels that the weights saw, which the stores keep in place of an earlier one.

    Returns a summary for each store; their seconds are those of the whole pass. Raises ExtractError or CacheError on
    wrong input or a store of other cubes, StoppedError or OSError when the machine stops it; what was written stays.
    """
    if not backbones or len(set(outs)) != len(backbones):
        raise ExtractError(f"outs ({len(set(outs))}) must be one store for each of {len(backbones)} layers")
    for out in outs:
        store_class(out)  # a wrong suffix is an error before a lock file is left beside it
    check_flip(views, videos, allow_flip=allow_flip)
    target = resolve_device(device)
    name = device_name(target)
    specs = [make_spec(b, views=views, sampling=sampling, precision=precision, device=target) for b in backbones]
    layout = _layout(specs, shard_rows=shard_rows, compress=compress, batch=batch, threads=threads)
    if not all(out.exists() for out in outs):
        check_network(backbones)  # before there is a store of cubes that it does not give
    timer = Timer()
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
            _rows_to_do(store, states, limit=limit, retry_failed=retry_failed)
            for store, states in zip(stores, before, strict=True)
        ]
        if any(rows):
            _extract_rows(
                stores, rows, videos, backbones, target, workers or default_workers(), timer, progress=progress
            )
    return [
        summarise(store, states, done, timer.seconds) for store, states, done in zip(stores, before, rows, strict=True)
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


def _rows_to_do(store: Store, states: Sequence[int], *, limit: int | None, retry_failed: bool) -> list[int]:
    """Rows that are missing, and with `retry_failed` those that failed; of the limit's videos alone."""
    wanted = range(len(states)) if limit is None else spread_rows(store.index, limit)
    return [row for row in wanted if states[row] == MISSING or (retry_failed and states[row] == FAILED)]


def _extract_rows(
    stores: Sequence[Store],
    rows: Sequence[Sequence[int]],
    videos: VideoSet,
    backbones: Sequence[Backbone],
    target: torch.device,
    workers: int,
    timer: Timer,
    *,
    progress: bool,
) -> None:
    """Extract each store's `rows` shard by shard. Decoders work ahead, across shards; everything else happens in this
    thread. Only the layers of stores that lack rows are computed."""
    busy = [number for number, todo in enumerate(rows) if todo]
    spec, header, network = stores[0].spec, stores[0].header, backbones[0]
    every = sorted(set().union(*rows))

    def load(row: int) -> Clip:
        path, key = videos.root / videos.index.paths[row], videos.index.keys[row]
        return decode_clip(path, frames=network.frames, rule=network.pixels, sampling=spec.sampling, key=key)

    threads = torch.get_num_threads()
    torch.set_num_threads(header.threads)
    try:
        chosen = [backbones[number] for number in busy]
        forward = Forward(chosen, views=spec.views, precision=spec.precision, device=target)
        clips = decode_in_order(every, load, workers=workers, in_flight=header.batch + 2 * workers)
        with closing(clips), _Meter(len(every), shown=progress) as meter:
            for shard, of_shard in _by_shard(every, header.shard_rows).items():
                works = [ShardWork(stores[n], shard, sorted(set(of_shard) & set(rows[n]))) for n in busy]
                extract_rows(
                    works,
                    of_shard,
                    start=shard * header.shard_rows,
                    batch=header.batch,
                    clips=clips,
                    forward=forward,
                    timer=timer,
                    tell=meter.tell,
                )
                with timer.measure("write"):
                    for work in works:
                        if work.rows:  # this shard of this store may have been finished before
                            work.write(device=device_name(target))
    finally:
        torch.set_num_threads(threads)


def _by_shard(rows: Sequence[int], shard_rows: int) -> dict[int, list[int]]:
    shards: dict[int, list[int]] = {}
    for row in rows:
        shards.setdefault(row // shard_rows, []).append(row)
    return shards


class _Meter:
    """The progress display, with the failures so far."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._bar = Progress(total, "extract", "videos") if shown else None
        self._failed = 0

    def tell(self, failed: bool) -> None:
        self._failed += failed
        if self._bar is not None:
            self._bar.advance(note=f"{self._failed} failed" if self._failed else "")

    def __enter__(self) -> "_Meter":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)
