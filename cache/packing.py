"""Numbers on their way into a store: float16 without Inf, or int8 with scales; and how many rows make a shard."""

import math

import numpy as np
from numpy.typing import NDArray

from .packed import MAX_SCALE, Packed, number_type
from .spec import FeatureSpec

_SHARD_BYTES, _SHARD_ROWS = 64_000_000, 64
# float16's exponent bits: all set in Inf and NaN, and in nothing else.
_EXPONENT = np.uint16(0x7C00)
_MOST = 127  # of int8: symmetric, so that a channel and its negative are alike


def row_bytes(spec: FeatureSpec) -> int:
    """Bytes of one row in the files: every view of one video."""
    scales = 0 if spec.dtype == "float16" else 2 * math.prod(spec.row_shape[:2])
    return number_type(spec).itemsize * math.prod(spec.row_shape) + scales


def value_bytes(spec: FeatureSpec) -> int:
    """Bytes of one row as it is read, in float16."""
    return 2 * math.prod(spec.row_shape)


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


def pack_int8(
    cubes: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float16], list[str | None]]:
    """Round `cubes`, float32 [r, views, c, t, h, w], to int8 of the same shape times scales, float16 [r, views, c].

    A scale is the float16 nearest to max|x| / 127 over t, h, w, but never so large that 127 of it are no float16, and
    the next one up where it would cut off more than half a step (among float16's smallest). So a number times its
    scale is at most scale / 2 from x. The list is that of `pack_float16`: the same rows fail, and are zeros.
    """
    reasons = pack_float16(cubes)[1]
    exact = np.ascontiguousarray(cubes).astype(np.float64)  # in which no quotient falls on the wrong side
    exact[[reason is not None for reason in reasons]] = 0
    peaks = np.abs(exact).max(axis=(3, 4, 5))  # [r, views, c]
    with np.errstate(under="ignore"):
        scales = np.minimum((peaks / _MOST).astype("<f2"), MAX_SCALE)
    cut = scales.astype(np.float64) * (_MOST + 0.5) < peaks
    scales[cut] = np.nextafter(scales[cut], np.float16(np.inf))
    steps = scales.astype(np.float64)[..., None, None, None]  # [r, views, c, 1, 1, 1]
    numbers = np.rint(exact / np.where(steps > 0, steps, 1)).clip(-_MOST, _MOST).astype(np.int8)
    return numbers, scales, reasons


def pack(cubes: NDArray[np.float32], dtype: str) -> tuple[Packed, list[str | None]]:
    """`cubes`, float32 [r, views, c, t, h, w], as a store of `dtype` keeps them, and why rows failed, if they did."""
    if dtype == "int8":
        numbers, scales, reasons = pack_int8(cubes)
        return Packed(numbers, scales), reasons
    rounded, reasons = pack_float16(cubes)
    return Packed(rounded), reasons


def _why(row: NDArray[np.float32]) -> str:
    if np.isnan(row).any():
        return "NaN among the values"
    if np.isinf(row).any():
        return "infinity among the values"
    worst = row.flat[np.abs(row).argmax()]
    return f"value {float(worst)} does not fit float16"
