"""One cube as a zstd frame, decoded into a place of known size whatever the frame claims."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import brief
from .errors import CorruptStoreError

LEVEL = 3


def compress(cube: NDArray[Any]) -> bytes:
    """The frame of a cube [c, t, h, w], float16 or int8."""
    from numcodecs.zstd import Zstd

    return bytes(Zstd(level=LEVEL).encode(cube))


def decompress(frame: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Decode `frame`, uint8 [bytes], into `out`, uint8 [bytes of a cube]; CorruptStoreError unless it fills it."""
    from numcodecs.zstd import Zstd

    claimed = _content_size(frame[:18].tobytes())
    # A shorter frame would leave a part of `out` as it was, without a word.
    if claimed != len(out):
        raise CorruptStoreError(f"a cube has {claimed} bytes once decoded, and must have {len(out)}")
    try:
        Zstd().decode(frame.tobytes(), out=out)
    except (RuntimeError, ValueError) as error:
        raise CorruptStoreError(f"a cube cannot be decoded ({brief(error)})") from error


def _content_size(head: bytes) -> int | None:
    """Frame_Content_Size of a frame's header (RFC 8878, 3.1.1.1), None where it has none or is no frame."""
    if len(head) < 5 or head[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = head[4]
    one_segment = descriptor >> 5 & 1
    start = 5 + (1 - one_segment) + (0, 1, 2, 4)[descriptor & 3]
    width = (one_segment, 2, 4, 8)[descriptor >> 6]
    field = head[start : start + width]
    if width == 0 or len(field) < width:
        return None
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)
