"""The bytes of a Zarr shard against independent readers of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache.errors import CorruptStoreError
from mastaf.cache.sharding import decode_index, encode_index, in_order


def _crc32c(data):
    """CRC-32C (Castagnoli), bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 3))
def test_the_checksum_of_an_index_is_castagnoli(sizes, absent):
    index = encode_index(sizes, len(sizes) + absent)
    assert index[-4:] == _crc32c(index[:-4]).to_bytes(4, "little")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 3))
def test_index_round_trip(sizes, absent):
    chunks = len(sizes) + absent
    shard = np.frombuffer(b"x" * sum(sizes) + encode_index(sizes, chunks), np.uint8)
    index = decode_index(shard, chunks, len(sizes))
    assert index.tolist() == [[sum(sizes[:i]), size] for i, size in enumerate(sizes)]
    assert in_order(index, sizes[0]) == (len(set(sizes)) == 1)


def _crafted(pairs):
    data = np.array(pairs, "<u8").tobytes()
    return np.frombuffer(b"x" * 8 + data + _crc32c(data).to_bytes(4, "little"), np.uint8)


@pytest.mark.parametrize(
    "pair",
    [(0, 9), (8, 1), (9, 0), (2**63, 4), (4, 2**64 - 4), (2**64 - 1, 2**64 - 1), (2**64 - 8, 8), (0, 2**63)],
)
def test_places_outside_the_file_are_refused(pair):
    with pytest.raises(CorruptStoreError, match="outside the file, or lacks a cube"):
        decode_index(_crafted([(0, 4), pair]), 2, 2)
    assert len(decode_index(_crafted([(0, 8), pair]), 2, 1)) == 1


def test_any_flipped_bit_of_the_index_and_any_cut_is_seen():
    whole = b"x" * 8 + encode_index([4, 4], 3)
    for place in range(8, len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << (place % 8)
        with pytest.raises(CorruptStoreError, match="cut off, or its index is damaged"):
            decode_index(np.frombuffer(bytes(flipped), np.uint8), 3, 2)
    for length in range(len(whole)):
        with pytest.raises(CorruptStoreError, match="cut off"):
            decode_index(np.frombuffer(whole[:length], np.uint8), 3, 2)
