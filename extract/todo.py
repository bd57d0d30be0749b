"""Which rows a run has to do."""

from collections.abc import Mapping, Sequence

from ..cache.index import FAILED, MISSING
from .fingerprint import fingerprint
from .limit import spread_rows
from .videos import VideoSet


def rows_to_do(
    videos: VideoSet, states: Sequence[int], seen: Mapping[int, str], *, limit: int | None, retry_failed: bool
) -> list[int]:
    """Rows that are missing, and those that failed if their video has changed since, with `retry_failed` all that
    failed; of the limit's videos alone.

    states: of a store of these videos; seen: the fingerprint that each failed row's video had, by row.
    """
    wanted = range(len(states)) if limit is None else spread_rows(videos.index, limit)

    def again(row: int) -> bool:
        path = videos.root / videos.index.paths[row]
        return states[row] == FAILED and (retry_failed or fingerprint(path) != seen.get(row, ""))

    return [row for row in wanted if states[row] == MISSING or again(row)]
