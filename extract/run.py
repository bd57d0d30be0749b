"""Extraction: videos -> clips -> cubes -> shards of a store. The unit of work is a shard."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from ..cache.console import Progress
from ..cache.index import FAILED, MISSING
from ..cache.packing import default_shard_rows
from ..cache.record import StoreHeader
from ..cache.spec import FeatureSpec
from ..cache.store import Store, store_class, writer_lock
from .backbones.base import Backbone
from .decode import Clip, decode_clip
from .decode_ahead import decode_in_order
from .errors import ExtractError
from .limit import spread_rows
from .opening import open_or_create, require_same_device
from .provenance import provenance
from .recipe import check_flip, device_name, make_spec, resolve_device
from .shard_work import Forward, ShardWork, Timer
from .summary import ExtractSummary, summarise
from .videos import VideoSet
from .workers import default_workers


def extract(
    videos: VideoSet,
    backbone: Backbone,
    *,
    out: Path,
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
) -> ExtractSummary:
    """Extract the cubes of `videos` into the store `out`, or finish what an earlier run left of it.

    A video that cannot be used is a failed row with its reason, and the run goes on. Finished shards are not done
    again, and in the others only the missing rows are; a run that was stopped and one that was not give the same
    bits. limit: that many videos, spread over splits and classes; retry_failed: also rows that failed before;
    shard_rows, compress, batch, threads: of a new store, which keeps its own. command: for the provenance.

    Raises ExtractError or CacheError on wrong input or a store of other cubes, StoppedError or OSError when the
    machine stops it; what was written stays.
    """
    store_class(out)  # a wrong suffix is an error before a lock file is left beside it
    check_flip(views, videos, allow_flip=allow_flip)
    target = resolve_device(device)
    name = device_name(target)
    spec = make_spec(backbone, views=views, sampling=sampling, precision=precision, device=target)
    about = provenance(videos, backbone, device=name, command=command, allow_flip=allow_flip)
    header = _header(videos, spec, about, shard_rows=shard_rows, compress=compress, batch=batch, threads=threads)
    timer = Timer()
    with writer_lock(out), timer.measure("total"):
        store = open_or_create(out, header=header, index=videos.index)
        require_same_device(store, name)
        before = store.states().tolist()
        rows = _rows_to_do(store, before, limit=limit, retry_failed=retry_failed)
        if rows:
            _extract_rows(store, rows, videos, backbone, target, workers or default_workers(), timer, progress=progress)
    return summarise(store, before, rows, timer.seconds)


def _header(
    videos: VideoSet,
    spec: FeatureSpec,
    about: dict[str, Any],
    *,
    shard_rows: int | None,
    compress: str,
    batch: int,
    threads: int | None,
) -> StoreHeader:
    if batch < 1:
        raise ExtractError(f"batch ({batch}) must be at least 1")
    if shard_rows is None:
        shard_rows = default_shard_rows(spec)
        # A batch never crosses a shard, so a shard of whole batches computes no padding.
        shard_rows -= shard_rows % min(batch, shard_rows)
    return StoreHeader(
        spec=spec,
        dataset=videos.name,
        split_scheme=videos.split_scheme,
        flip_keeps_class=videos.flip_keeps_class,
        shard_rows=shard_rows,
        compress=compress,
        batch=min(batch, max(shard_rows, 1)),
        threads=threads or torch.get_num_threads(),
        coverage=videos.coverage,
        provenance=about,
    )


def _rows_to_do(store: Store, states: Sequence[int], *, limit: int | None, retry_failed: bool) -> list[int]:
    """Rows that are missing, and with `retry_failed` those that failed; of the limit's videos alone."""
    wanted = range(len(states)) if limit is None else spread_rows(store.index, limit)
    return [row for row in wanted if states[row] == MISSING or (retry_failed and states[row] == FAILED)]


def _extract_rows(
    store: Store,
    rows: Sequence[int],
    videos: VideoSet,
    backbone: Backbone,
    target: torch.device,
    workers: int,
    timer: Timer,
    *,
    progress: bool,
) -> None:
    """Extract `rows` shard by shard. Decoders work ahead, across shards; everything else happens in this thread."""
    spec, batch = store.spec, store.header.batch
    rule, frames, sampling = backbone.pixels, backbone.frames, spec.sampling

    def load(row: int) -> Clip:
        path, key = videos.root / videos.index.paths[row], videos.index.keys[row]
        return decode_clip(path, frames=frames, rule=rule, sampling=sampling, key=key)

    threads = torch.get_num_threads()
    torch.set_num_threads(store.header.threads)
    try:
        forward = Forward(backbone, views=spec.views, precision=spec.precision, device=target)
        clips = decode_in_order(rows, load, workers=workers, in_flight=batch + 2 * workers)
        with closing(clips), _Meter(len(rows), shown=progress) as meter:
            for shard, of_shard in _by_shard(rows, store.header.shard_rows).items():
                work = ShardWork(store, shard, of_shard)
                work.extract(clips, forward, timer=timer, tell=meter.tell)
                with timer.measure("write"):
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
