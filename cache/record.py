"""What a store says of itself: its header, written once, and one record per shard, written last."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from .checks import brief, fit_fields, require_keys
from .errors import CacheError, CorruptStoreError
from .index import DONE, FAILED, SPLITS, STATE_NAMES
from .packing import row_bytes
from .spec import FeatureSpec

SCHEMA = 2
COMPRESSIONS = ("", "zstd")
# A stranger's header must not make a reader allocate at will; default shards stay below 64 MB and 64 rows.
MAX_SHARD_ROWS, MAX_SHARD_BYTES = 1 << 16, 1 << 30


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """What is fixed when a store is created, and written once as the attributes of its group.

    dataset: name given to --dataset (`hmdb51`); split_scheme: `hmdb51-arn`; flip_keeps_class: whether a mirrored
    video keeps its class in this data set; shard_rows: rows a shard; compress: '' or 'zstd'; batch, threads: clips
    and torch threads per forward, reused by every resume because they change bits; coverage: one dictionary
    {split, class, found, expected} per class of the split scheme (expected is None where nothing is published);
    provenance: versions, source of the weights, the command, stray files, the date: whatever does not change cubes.
    """

    spec: FeatureSpec
    dataset: str
    split_scheme: str
    flip_keeps_class: bool
    shard_rows: int
    compress: str
    batch: int
    threads: int
    coverage: tuple[dict[str, Any], ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        fit_fields(self)
        _check_schema(self.schema)
        if self.compress not in COMPRESSIONS:
            raise CacheError(f"compress ('{self.compress}') must be '' or 'zstd'")
        for name in ("shard_rows", "batch", "threads"):
            if getattr(self, name) < 1:
                raise CacheError(f"{name} ({getattr(self, name)}) must be at least 1")
        if self.shard_rows > MAX_SHARD_ROWS or self.shard_rows * row_bytes(self.spec) > MAX_SHARD_BYTES:
            raise CacheError(
                f"shard_rows ({self.shard_rows}) of {row_bytes(self.spec)} bytes a row must be at most "
                f"{MAX_SHARD_ROWS} rows and {MAX_SHARD_BYTES >> 20} MB a shard; lower --shard-rows"
            )
        for entry in self.coverage:
            _check_coverage(require_keys(entry, ("split", "class", "found", "expected"), "a coverage entry"))

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values; `from_json` is its inverse. CacheError when provenance is no JSON."""
        try:
            return json.loads(json.dumps(asdict(self) | {"spec": self.spec.to_json()}, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise CacheError(f"coverage and provenance must be plain JSON values ({error})") from error

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a header, refusing what is not one (CacheError)."""
        # Another schema may have other fields, so its number is looked at first.
        if isinstance(value, dict) and "schema" in value:
            _check_schema(value["schema"])
        found = require_keys(value, (f.name for f in fields(cls)), "the header")
        rest: dict[str, Any] = found | {"spec": FeatureSpec.from_json(found["spec"])}
        return cls(**rest)


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """The record of one shard, written last: the only truth about which of its rows are done.

    shard: its number; generation: 0, then one more each time rows of it are written again; start, stop: its rows
    [start, stop); states: MISSING, DONE or FAILED per row; reasons: row number (counted over the whole store)
    -> why it failed; seen: row number -> state of a failed row's video when it was read (size and times), so that
    one that changed since can be tried again; notes: row number -> what its user should know ("95 of 100 frames
    decodable"); sha256: per row, of the row's little-endian bytes over all views, '' where the row is not done;
    device: that computed it.
    """

    shard: int
    generation: int
    start: int
    stop: int
    states: tuple[int, ...]
    reasons: dict[int, str]
    notes: dict[int, str]
    sha256: tuple[str, ...]
    device: str
    seen: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fit_fields(self)
        rows = range(self.start, self.stop)
        what = f"record of shard {self.shard}"
        if self.shard < 0 or self.generation < 0 or len(rows) < 1 or self.start < 0:
            raise CacheError(f"{what}: shard, generation and rows must be counts, and rows at least one")
        if not len(self.states) == len(self.sha256) == len(rows):
            raise CacheError(f"{what} must have {len(rows)} states and checksums, one a row")
        for row, state, digest in zip(rows, self.states, self.sha256, strict=True):
            if not 0 <= state < len(STATE_NAMES):
                raise CacheError(f"{what}: state {state} of row {row} must be one of {STATE_NAMES} by number")
            if (state == DONE) != (len(digest) == 64 and set(digest) <= set("0123456789abcdef")) or (
                state != DONE and digest
            ):
                raise CacheError(f"{what}: row {row} must have a sha256 exactly if it is done")
        failed = {row for row, state in zip(rows, self.states, strict=True) if state == FAILED}
        if set(self.reasons) != failed:
            odd = sorted(set(self.reasons) ^ failed)[0]
            raise CacheError(f"{what}: reasons must name exactly the failed rows of {rows}, but row {odd} differs")
        if not set(self.seen) <= failed:
            raise CacheError(f"{what}: seen must name failed rows of {rows}")
        if not set(self.notes) <= set(rows):
            raise CacheError(f"{what}: notes must name rows of {rows}")

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values; `from_json` is its inverse."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, value: Any, *, shard: int, rows: range) -> Self:
        """Rebuild the record of `shard`, which holds `rows`; CorruptStoreError when it is another's or damaged."""
        try:
            if isinstance(value, dict):
                value = {"seen": {}} | value  # records of earlier versions have none
            found = require_keys(value, (f.name for f in fields(cls)), "it")
            by_row: dict[str, Any] = {name: _by_row(found[name], name) for name in ("reasons", "notes", "seen")}
            record = cls(**(found | by_row))
        except CacheError as error:
            raise CorruptStoreError(str(error)) from error
        if (record.shard, record.start, record.stop) != (shard, rows.start, rows.stop):
            raise CorruptStoreError(f"it is the record of shard {record.shard}, not of {shard} with {rows}")
        return record


def _check_schema(schema: Any) -> None:
    if schema != SCHEMA:
        raise CacheError(
            f"schema ({brief(schema)}) must be {SCHEMA}: it was made by another version of mastaf; "
            "use that version, or extract again"
        )


def _check_coverage(entry: dict[str, Any]) -> None:
    counts = (entry["found"], 0 if entry["expected"] is None else entry["expected"])
    named = entry["split"] in SPLITS and isinstance(entry["class"], str)
    if not named or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise CacheError(
            f"a coverage entry ({brief(entry)}) must have a split ({', '.join(SPLITS)}), a class, and counts"
        )


def _by_row(value: Any, name: str) -> dict[int, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(k, str) and k.isdecimal() and len(k) < 19 for k in value):
        raise CacheError(f"{name} must be a JSON object with row numbers for names")
    return {int(k): v for k, v in value.items()}
