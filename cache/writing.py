"""What is checked before a shard is written, and the record that it then gets."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .checks import brief
from .errors import CacheError
from .index import DONE
from .packed import Packed, number_type, scales_are_possible
from .packing import finite_rows
from .record import ShardRecord
from .spec import FeatureSpec


def row_digest(row: Packed) -> str:
    """sha256 (hex) of one row [views, c, t, h, w] as little-endian bytes in C order: its numbers, then their scales."""
    digest = hashlib.sha256()
    for part in row.parts:
        digest.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).data.cast("B"))
    return digest.hexdigest()


def prepare_shard(
    cubes: Packed, *, rows: int, spec: FeatureSpec, states: Sequence[int] | NDArray[np.integer]
) -> Packed:
    """`cubes` [rows, views, c, t, h, w] as they go into the files: little-endian, rows that are not done are zeros.

    Raises CacheError for another type or shape than those of `spec`, or a done row that packing cannot have made.
    """
    numbers, scales, shape = cubes.numbers, cubes.scales, (rows, *spec.row_shape)
    if numbers.dtype != number_type(spec) or numbers.shape != shape:
        raise CacheError(f"cubes ({numbers.dtype} {list(numbers.shape)}) must be {spec.dtype} {list(shape)}")
    if (scales is None) != (spec.dtype == "float16") or (scales is not None and scales.shape != shape[:3]):
        given = "none" if scales is None else list(scales.shape)
        raise CacheError(f"scales ({given}) must be {list(shape[:3])} for int8, none for float16; pack with pack_int8")
    if len(states) != rows:
        raise CacheError(f"states ({len(states)} of them) must be one for each of the {rows} rows")
    done = np.asarray(states) == DONE  # [r]
    ready = Packed(
        np.ascontiguousarray(numbers, number_type(spec)),
        None if scales is None else np.ascontiguousarray(scales, "<f2"),
    )
    _require_packed(ready, np.flatnonzero(done).tolist())
    if any(part[~done].any() for part in ready.parts):
        ready = Packed(ready.numbers.copy(), None if ready.scales is None else ready.scales.copy())
        ready.clear(~done)
    return ready


def _require_packed(cubes: Packed, slots: Sequence[int]) -> None:
    if cubes.scales is None:
        for slot in np.flatnonzero(~finite_rows(cubes.numbers)).tolist():
            if slot in slots:
                raise CacheError(
                    f"row {slot} of the shard holds NaN or Inf; pack cubes with pack_float16 and fail that row"
                )
        return
    for slot in slots:
        if not scales_are_possible(cubes.scales[slot]) or (cubes.numbers[slot] == -128).any():
            raise CacheError(f"row {slot} of the shard has scales or numbers that pack_int8 does not give; use it")


def make_record(
    cubes: Packed,
    *,
    shard: int,
    rows: range,
    states: Sequence[int] | NDArray[np.integer],
    reasons: Mapping[int, str],
    notes: Mapping[int, str],
    device: str,
    previous: ShardRecord | None,
    seen: Mapping[int, str] | None = None,
) -> ShardRecord:
    """The record of the next generation of a shard. CacheError when a row that was done would change its bits."""
    digests = [row_digest(cubes[slot]) if state == DONE else "" for slot, state in enumerate(states)]
    if previous is not None:
        for row, old, new in zip(rows, previous.sha256, digests, strict=True):
            if old and old != new:
                raise CacheError(
                    f"row {row} of shard {shard} is done and must keep its bits; delete the shard's record to "
                    "compute it again (was another device, torch or thread count used?)"
                )
    return ShardRecord(
        shard=shard,
        generation=0 if previous is None else previous.generation + 1,
        start=rows.start,
        stop=rows.stop,
        states=tuple(int(state) for state in states),
        reasons={int(row): brief(reason, 500) for row, reason in reasons.items()},
        notes={int(row): brief(note, 500) for row, note in notes.items()},
        sha256=tuple(digests),
        device=device,
        seen={int(row): brief(state, 100) for row, state in (seen or {}).items() if state},
    )
