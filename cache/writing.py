"""What is checked before a shard is written, and the record that it then gets."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .checks import brief
from .errors import CacheError
from .index import DONE
from .packing import finite_rows
from .record import ShardRecord


def row_digest(row: NDArray[np.float16]) -> str:
    """sha256 (hex) of one row, float16 [views, c, t, h, w], as little-endian bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(row, "<f2").data.cast("B")).hexdigest()


def prepare_shard(
    cubes: NDArray[np.float16], *, shape: tuple[int, ...], states: Sequence[int] | NDArray[np.integer]
) -> NDArray[np.float16]:
    """`cubes` [r, views, c, t, h, w] as they go into the file: little-endian, rows that are not done are zeros.

    Raises CacheError for another dtype or shape than `shape`, or a done row with NaN or Inf.
    """
    if cubes.dtype != np.float16 or cubes.shape != shape:
        raise CacheError(f"cubes ({cubes.dtype} {list(cubes.shape)}) must be float16 {list(shape)}")
    if len(states) != len(cubes):
        raise CacheError(f"states ({len(states)} of them) must be one for each of the {len(cubes)} rows")
    cubes = np.ascontiguousarray(cubes, "<f2")
    done = np.asarray(states) == DONE  # [r]
    bad = np.flatnonzero(done & ~finite_rows(cubes))
    if len(bad):
        raise CacheError(f"row {bad[0]} of the shard holds NaN or Inf; pack cubes with pack_float16 and fail that row")
    if cubes[~done].any():
        cubes = cubes.copy()
        cubes[~done] = 0
    return cubes


def make_record(
    cubes: NDArray[np.float16],
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
    digests = [row_digest(row) if state == DONE else "" for row, state in zip(cubes, states, strict=True)]
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
