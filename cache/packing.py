"""Numbers on their way into a store: float16 without Inf, and how many rows make a shard."""

import numpy as np
from numpy.typing import NDArray

from .spec import FeatureSpec

_SHARD_BYTES, _SHARD_ROWS = 64_000_000, 64
# float16's exponent bits: all set in Inf and NaN, and in nothing else.
_EXPONENT = np.uint16(0x7C00)


def row_bytes(spec: FeatureSpec) -> int:
    """Bytes of one row: every view of one video."""
    size = 2  # float16
    for side in spec.row_shape:
        size *= side
    return size


def default_shard_rows(spec: FeatureSpec) -> int:
    """Rows a shard: as many as fit 64 MB, at most 64, at least 1."""
    return max(1, min(_SHARD_BYTES // row_bytes(spec), _SHARD_ROWS))


def finite_rows(cubes: NDArray[np.float16]) -> NDArray[np.bool_]:
    """True for each row of `cubes`, float16 [r, ...], without Inf and NaN: bool [r]."""
    bits = np.ascontiguousarray(cubes).view(np.uint16).reshape(len(cubes), -1)  # [r, values of a row]
    return ~((bits & _EXPONENT) == _EXPONENT).any(axis=1)


def pack_float16(cubes: NDArray[np.float32]) -> tuple[NDArray[np.float16], list[str | None]]:
    """Round `cubes`, float32 [r, views, c, t, h, w], to float16 of the same shape, and say which rows do not fit.

    The list has one entry a row: None, or why the row failed ('value 70000.0 does not fit float16', 'NaN among
    the values'); such a row is zeros. Values too small for float16 become its nearest, down to 0, as rounding does.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        packed = np.ascontiguousarray(cubes).astype("<f2")
    reasons: list[str | None] = [None] * len(packed)
    for row in np.flatnonzero(~finite_rows(packed)):
        reasons[row] = _why(np.asarray(cubes[row]))
        packed[row] = 0
    return packed, reasons


def _why(row: NDArray[np.float32]) -> str:
    if np.isnan(row).any():
        return "NaN among the values"
    if np.isinf(row).any():
        return "infinity among the values"
    worst = row.flat[np.abs(row).argmax()]
    return f"value {float(worst)} does not fit float16"
