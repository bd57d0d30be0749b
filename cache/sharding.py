"""The bytes of a Zarr v3 shard (codec `sharding_indexed`): cubes, then the index that says where each one stands.

    cube (0,0) | cube (0,1) | cube (1,0) | ... | offset, nbytes of (0,0) | of (0,1) | ... | crc32c of the index
    row 0         row 0         row 1             uint64, little-endian, C order, all ones where there is no cube

The specification allows the cubes in any order; zarr-python writes them in Morton order, which for more than one
view cannot be memory-mapped as one array. Here they stand in C order, so that it can. Format:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from collections.abc import Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from .errors import CorruptStoreError
from .files import Content

_ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)


def encode_index(sizes: Sequence[int], chunks: int) -> bytes:
    """The index of a shard of `chunks` cubes, of which the first len(sizes) stand one after another from byte 0."""
    index = np.full((chunks, 2), _ABSENT, "<u8")
    index[: len(sizes), 1] = sizes
    index[: len(sizes), 0] = np.cumsum([0, *sizes[:-1]])
    data = index.tobytes()
    return data + google_crc32c.value(data).to_bytes(4, "little")


def index_bytes(chunks: int) -> int:
    """Bytes of the index of a shard of `chunks` cubes."""
    return 16 * chunks + 4


def decode_index(shard: NDArray[np.uint8] | Content, chunks: int, present: int) -> NDArray[np.int64]:
    """Where the first `present` cubes of a shard file, uint8 [bytes], stand: int64 [present, 2] of (offset, nbytes).

    Raises CorruptStoreError when the file is cut off, the index is damaged, or a cube is absent or outside the file.
    """
    length = index_bytes(chunks)
    room = len(shard) - length
    if room < 0:
        raise CorruptStoreError(f"the file is cut off: {len(shard)} bytes cannot hold its index of {length}")
    end = shard[room:].tobytes()
    data, check = end[:-4], end[-4:]
    if google_crc32c.value(data).to_bytes(4, "little") != check:
        raise CorruptStoreError("the file is cut off, or its index is damaged: wrong checksum")
    index = np.frombuffer(data, "<u8").reshape(chunks, 2)[:present]  # [present, 2]
    offsets, sizes = index[:, 0], index[:, 1]
    # Compared this way round, nothing can overflow; an absent cube has the largest offset there is.
    if (offsets > room).any() or (sizes > room - np.minimum(offsets, room)).any():
        raise CorruptStoreError("the index names bytes outside the file, or lacks a cube")
    return index.astype(np.int64)


def in_order(index: NDArray[np.int64], nbytes: int) -> bool:
    """Whether the cubes of `index` [present, 2] are `nbytes` each and stand one after another from byte 0."""
    return bool((index[:, 0] == np.arange(len(index)) * nbytes).all() and (index[:, 1] == nbytes).all())
