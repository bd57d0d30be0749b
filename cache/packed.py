"""Cubes as a store keeps them: float16, or int8 with one float16 scale for each channel of each view and video."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptStoreError
from .spec import FeatureSpec

# The largest float16 that 127 times is one too. Bits of float16 that is not negative rise with its value.
MAX_SCALE = np.float16(515.5)
_MAX_SCALE_BITS = MAX_SCALE.view(np.uint16)


@dataclass(frozen=True)
class Packed:
    """Any number of cubes. numbers: float16 or int8 [..., c, t, h, w]; scales: None for float16, else float16 [..., c],
    which the numbers of a channel are multiplied by."""

    numbers: NDArray[Any]
    scales: NDArray[np.float16] | None = None

    @classmethod
    def zeros(cls, rows: int, spec: FeatureSpec) -> Self:
        """`rows` rows of a store, [rows, views, c, t, h, w]."""
        numbers = np.zeros((rows, *spec.row_shape), number_type(spec))
        return cls(numbers, None if spec.dtype == "float16" else np.zeros((rows, *spec.row_shape[:2]), "<f2"))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, part: Any) -> "Packed":
        """A part by the first axis."""
        return Packed(self.numbers[part], None if self.scales is None else self.scales[part])

    def put(self, slot: int, row: "Packed") -> None:
        """Replace one of the first axis."""
        self.numbers[slot] = row.numbers
        if self.scales is not None:
            self.scales[slot] = row.scales

    def clear(self, slots: int | NDArray[np.bool_]) -> None:
        """Zeros for these of the first axis."""
        for part in self.parts:
            part[slots] = 0

    @property
    def parts(self) -> list[NDArray[Any]]:
        """The arrays, in the order of checksums."""
        return [self.numbers] if self.scales is None else [self.numbers, self.scales]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def values(self) -> NDArray[np.float16]:
        """What they stand for, float16 [..., c, t, h, w]: the numbers themselves where they are that.

        CorruptStoreError for scales that no packing gives.
        """
        if self.scales is None:
            return self.numbers
        out = np.empty(self.numbers.shape, "<f2")
        c, *sides = self.numbers.shape[-4:]
        cubes = self.numbers.reshape(-1, c, *sides), self.scales.reshape(-1, c), out.reshape(-1, c, *sides)
        for numbers, scales, target in zip(*cubes, strict=True):
            dequantise(numbers, scales, target)
        return out


def number_type(spec: FeatureSpec) -> np.dtype[Any]:
    """The type of a store's numbers, as they are in its files."""
    return np.dtype("<f2" if spec.dtype == "float16" else spec.dtype)


def dequantise(numbers: NDArray[np.int8], scales: NDArray[np.float16], out: NDArray[np.float16]) -> None:
    """Write one cube, int8 [c, t, h, w] times scales [c], into `out` [c, t, h, w].

    The product is exact in float32, so it is rounded once. CorruptStoreError for scales that no packing gives.
    """
    if not scales_are_possible(scales):
        raise CorruptStoreError(
            f"scales of int8 cubes are damaged: they must be from 0 to {MAX_SCALE}; run mastaf-cache verify"
        )
    wide = numbers.astype(np.float32)
    wide *= scales.astype(np.float32)[:, None, None, None]
    with np.errstate(over="ignore"):  # only a stranger's -128 can: verify and banks find Inf
        out[...] = wide


def scales_are_possible(scales: NDArray[np.float16]) -> bool:
    """Whether all are finite, not negative, and no larger than packing gives."""
    return bool((np.ascontiguousarray(scales, "<f2").view("<u2") <= _MAX_SCALE_BITS).all())
