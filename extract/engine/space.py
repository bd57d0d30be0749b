"""How many bytes a run will add to its stores, and whether their disks can hold them."""

import math
from collections.abc import Iterable, Sequence

from ...cache.index import VideoIndex
from ...cache.packing import row_bytes
from ...cache.place import StorePath
from ...cache.record import StoreHeader
from ...cache.room import require_room
from ...cache.store import Store
from ..datasets.videos import VideoSet
from .opening import open_checked
from .todo import rows_to_do

REMEDY = "free some space, or pass --out on another disk; mastaf-extract --plan says what a run needs"

_A_SHARD, _A_ROW = 4 << 12, 256  # bytes of records, of their folders, and of blocks that are not full
# What zstd leaves is known at the end; that it leaves less than this is not to be expected, and no run that might fit
# is refused.
_COMPRESSED = 0.25


def index_bytes(index: VideoIndex) -> int:
    """Bytes of the columns of an index: texts and offsets."""
    texts = sum(len(text.encode()) for column in index.to_columns().values() for text in column)
    return texts + 8 * (len(index) + 1) * len(index.to_columns())


def beside_bytes(header: StoreHeader, index: VideoIndex) -> int:
    """Bytes of a finished store beside its cubes: the index, and about what records take."""
    return index_bytes(index) + -(-len(index) // header.shard_rows) * _A_SHARD + len(index) * _A_ROW


def bytes_to_come(store: Store | None, header: StoreHeader, index: VideoIndex, rows: Sequence[int]) -> int:
    """Bytes that doing `rows` adds to a store, which is there, or None and new with `header` for the videos of `index`;
    at least, where it is compressed.

    Shards that have a record are there already, whole; a shard is written beside the one that it replaces.
    """
    if not rows:
        return 0
    there = set[int]() if store is None else {record.shard for record in store.records()}
    header = header if store is None else store.header
    shards = {row // header.shard_rows for row in rows}
    share = _COMPRESSED if header.compress else 1
    new = sum(_shard_bytes(header, shard, len(index), share) for shard in shards - there)
    copy = max((_shard_bytes(header, shard, len(index), share) for shard in shards & there), default=0)
    return new + copy + (index_bytes(index) if store is None else 0)


def _shard_bytes(header: StoreHeader, shard: int, n: int, share: float) -> int:
    rows = min(header.shard_rows, n - shard * header.shard_rows)
    filler = 0
    if header.spec.dtype == "int8":  # in .zarr, scales are a file of their own, as long in the last shard as in others
        filler = (1 << 12) + (header.shard_rows - rows) * 2 * math.prod(header.spec.row_shape[:2])
    return int(share * rows * row_bytes(header.spec)) + filler + _A_SHARD + rows * _A_ROW


def require_space(
    outs: Iterable[StorePath],
    headers: Sequence[StoreHeader],
    videos: VideoSet,
    *,
    limit: int | None,
    retry_failed: bool,
) -> None:
    """StoppedError when the disks of the stores `outs` cannot hold what is missing. Object storage has no such end.

    Raises what `open_checked` raises for stores that are there.
    """
    needs: list[tuple[StorePath, int]] = []
    for out, header in zip(outs, headers, strict=True):
        # Rows of other videos cannot be counted.
        store = open_checked(out, header=header, index=videos.index) if out.exists() else None
        rows = rows_to_do(videos, store, limit=limit, retry_failed=retry_failed)
        needs.append((out, bytes_to_come(store, header, videos.index, rows)))
    require_room(needs, remedy=REMEDY)
