"""Looking at every byte of a store: what its records vouch for is there, unchanged, and finite."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .base import Store
from .errors import CacheError, CorruptStoreError
from .index import DONE, MISSING, STATE_NAMES
from .packing import finite_rows
from .record import ShardRecord
from .writing import row_digest


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row whose cube must not be used. row: its number; key: its video; reason: in words."""

    row: int
    key: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"row": self.row, "key": self.key, "reason": self.reason}


def verify_store(store: Store, *, advance: Callable[[int], None] | None = None) -> list[BadRow]:
    """Check files, shapes, checksums, NaN and Inf of every shard, one shard at a time; the bad rows, in order.

    Rows that are missing or failed are no fault of the store. advance: called with the rows of each shard once it
    is checked. What the store says of itself (header, index, dtype, shapes) was checked when it was opened. Raises
    CorruptStoreError where the finding on pretraining labels is damaged.
    """
    store.refresh()
    store.label_overlap()  # raises where it is damaged
    bad = []
    for shard in range(store.n_shards):
        for row, reason in _bad_rows(store, shard):
            bad.append(BadRow(row=row, key=store.index.keys[row], reason=reason))
        if advance is not None:
            advance(len(store.shard_range(shard)))
    return bad


def count_states(store: Store) -> dict[str, int]:
    """Rows by state, and as `damaged` those whose shard has an unreadable record."""
    counts: dict[str, int] = dict.fromkeys((*STATE_NAMES, "damaged"), 0)
    for shard in range(store.n_shards):
        rows = store.shard_range(shard)
        try:
            record = store.record(shard)
        except CorruptStoreError:
            counts["damaged"] += len(rows)
            continue
        for state in [MISSING] * len(rows) if record is None else record.states:
            counts[STATE_NAMES[state]] += 1
    return counts


def _bad_rows(store: Store, shard: int) -> Iterator[tuple[int, str]]:
    rows = store.shard_range(shard)
    try:
        record = store.record(shard)
    except CorruptStoreError as error:
        yield from ((row, str(error)) for row in rows)
        return
    if record is None:
        return
    try:
        opened = store.open_shard(shard).near()
    except CacheError as error:
        yield from ((row, str(error)) for row, state in zip(rows, record.states, strict=True) if state != MISSING)
        return
    for slot in (slot for slot, state in enumerate(record.states) if state == DONE):
        reason = _fault(opened.row, slot, record)
        if reason:
            yield rows[slot], reason


def _fault(read_row: Callable[[int], Any], slot: int, record: ShardRecord) -> str:
    try:
        row = read_row(slot)  # [views, c, t, h, w]
    except CorruptStoreError as error:
        return str(error)
    if row_digest(row) != record.sha256[slot]:
        return "its bytes changed since they were written (sha256 differs)"
    return "" if finite_rows(row[None]).all() else "NaN or Inf among its values"
