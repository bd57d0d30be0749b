"""What an extraction run reports."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..cache.index import DONE, FAILED, MISSING
from ..cache.store import Store
from .engine.timer import bound_of


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """done: videos extracted by this run; skipped: done before; failed: failed rows of the store; missing: rows that
    no run has tried yet (left out by --limit); seconds: by stage, see `timer.STAGES`; bound: the stage that the run
    waited for most; decoders: threads that decoded at its end; videos_per_second: tried by this run; failures: {key,
    reason} of every failed row; stopped_at: key of the failed row that ended the run, or ''.
    """

    done: int
    skipped: int
    failed: int
    missing: int
    seconds: dict[str, float]
    bound: str
    decoders: int
    videos_per_second: float
    failures: list[dict[str, str]]
    stopped_at: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    store: Store,
    before: Sequence[int],
    tried: Sequence[int],
    seconds: Mapping[str, float],
    *,
    decoders: int,
    stopped_at: int | None = None,
) -> ExtractSummary:
    """before: states of all rows at the start; tried: rows of this run; seconds: by stage; stopped_at: the row that
    ended it."""
    states, reasons = store.states().tolist(), store.reasons()
    # A run that stopped has left rows as they were.
    ended = [row for row in tried if stopped_at in (None, row) or states[row] != before[row]]
    return ExtractSummary(
        done=sum(states[row] == DONE for row in tried),
        skipped=list(before).count(DONE),
        failed=states.count(FAILED),
        missing=states.count(MISSING),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        bound=bound_of(seconds),
        decoders=decoders,
        videos_per_second=round(len(ended) / max(seconds["total"], 1e-9), 2),
        failures=[{"key": store.index.keys[row], "reason": reasons[row]} for row in sorted(reasons)],
        stopped_at="" if stopped_at is None else store.index.keys[stopped_at],
    )
