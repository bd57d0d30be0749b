"""Whole shards in order, with the next ones under way where they are far away."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from .base import Store
from .packing import row_bytes

_SHARDS, _BYTES = 6, 512 << 20  # under way, or waiting to be taken


def shards_in_order(store: Store, shards: Sequence[int]) -> Iterator[NDArray[np.float16]]:
    """Each shard in turn, float16 [r, views, c, t, h, w]: mapped where that can be, else read. Errors as
    `Store.mapped`. A map is let go when the next one is asked for: its pages would count as the reader's."""
    if store.is_remote:
        yield from _fetched(store, shards)
        return
    for shard in shards:
        mapped = store.mapped(shard)
        yield store.read_shard(shard) if mapped is None else mapped
        del mapped
        store.release(shard)


def _fetched(store: Store, shards: Sequence[int]) -> Iterator[NDArray[np.float16]]:
    """One request a shard, several at once."""
    at_once = max(1, min(_SHARDS, _BYTES // (row_bytes(store.spec) * store.header.shard_rows)))
    with ThreadPoolExecutor(at_once) as pool:
        coming: deque[Future[NDArray[np.float16]]] = deque()
        try:
            for shard in shards:
                if len(coming) == at_once:
                    yield coming.popleft().result()
                coming.append(pool.submit(store.read_shard, shard))
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
