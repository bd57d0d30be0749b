"""Which rows a run has to do."""

from ...cache.index import FAILED, MISSING
from ...cache.store import Store
from ..datasets.limit import spread_rows
from ..datasets.videos import VideoSet
from ..decoding.fingerprint import fingerprint


def rows_to_do(videos: VideoSet, store: Store | None, *, limit: int | None, retry_failed: bool) -> list[int]:
    """Rows that are missing, and those that failed if their video has changed since, with `retry_failed` all that
    failed; of the limit's videos alone.

    store: of these videos, None for one that is yet to be made.
    """
    wanted = list(range(len(videos.index)) if limit is None else spread_rows(videos.index, limit))
    if store is None:
        return wanted
    states, seen = store.states().tolist(), store.seen()

    def again(row: int) -> bool:
        path = videos.root / videos.index.paths[row]
        return states[row] == FAILED and (retry_failed or fingerprint(path) != seen.get(row, ""))

    return [row for row in wanted if states[row] == MISSING or again(row)]
