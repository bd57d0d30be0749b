"""What is fixed when a store is made: its header, its shards and batches."""

from collections.abc import Sequence
from typing import Any

from ...cache.packing import default_shard_rows
from ...cache.record import StoreHeader
from ...cache.spec import FeatureSpec
from ..datasets.videos import VideoSet
from ..errors import ExtractError


def store_layout(
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


def store_header(videos: VideoSet, spec: FeatureSpec, about: dict[str, Any], layout: dict[str, Any]) -> StoreHeader:
    """The header of a new store. about: its provenance; layout: see `store_layout`."""
    return StoreHeader(
        spec=spec,
        dataset=videos.name,
        split_scheme=videos.split_scheme,
        flip_keeps_class=videos.flip_keeps_class,
        coverage=videos.coverage,
        provenance=about,
        **layout,
    )
