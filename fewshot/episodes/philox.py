"""Counter-based random integers: number `j` of episode `i` is a pure function of (key, i, j).

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
written out here, and so is the step from bits to integers, because numpy promises neither the streams of its
distributions nor their speed over many small counters. A draw therefore is the same for any batch size, worker
count and numpy version.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUNDS = 10


def philox4x32(counter: Sequence[np.ndarray], key: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Encrypt counters: four uint64 arrays of one shape, each value < 2^32, give four more of that shape.

    key: two integers of 32 bits. Lanes are 64 bits wide so that a product of two 32-bit words is exact.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2
        c0 = (second >> _HALF) ^ c1 ^ np.uint64(k0)
        c2 = (first >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = second & _LOW, first & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def key_of(*parts: object) -> tuple[int, int]:
    """A key of 64 bits: the first bytes of the sha256 of the parts written as JSON."""
    digest = hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def random_words(key: tuple[int, int], streams: np.ndarray, count: int) -> np.ndarray:
    """`count` random words of 64 bits for each stream number (uint64 [n]); uint64 [n, count].

    Counter = (block, 0, low and high half of the stream number); a block of 128 bits gives two words.
    """
    blocks = (count + 1) // 2
    n = len(streams)
    block = np.broadcast_to(np.arange(blocks, dtype=np.uint64), (n, blocks))
    low, high = (streams & _LOW)[:, None], (streams >> _HALF)[:, None]  # [n, 1]
    zero = np.zeros((n, blocks), dtype=np.uint64)
    bits = philox4x32((block, zero, zero + low, zero + high), key)  # four times [n, blocks]
    words = np.stack([bits[0] | bits[1] << _HALF, bits[2] | bits[3] << _HALF], axis=-1)  # [n, blocks, 2]
    return words.reshape(n, 2 * blocks)[:, :count]  # [n, count]


def below(words: np.ndarray, bound: np.ndarray | int) -> np.ndarray:
    """Integers in 0 .. bound-1 from words of 64 bits, int64 of their common shape; 1 <= bound < 2^32.

    floor(word * bound / 2^64), the product taken in two halves. Each value's probability is off by less than
    2^-64, so the bias of an event is below bound / 2^64 (under 2^-51 for a class of 8,000 videos).
    """
    n = np.asarray(bound).astype(np.uint64)
    carried = (words >> _HALF) * n + ((words & _LOW) * n >> _HALF)  # < 2^64, no overflow
    return (carried >> _HALF).astype(np.int64)


def distinct(words: np.ndarray, size: np.ndarray | int) -> np.ndarray:
    """Ordered samples without replacement: words [..., k] and sizes [...] give int64 [..., k] in 0 .. size-1.

    Every ordered choice of k is equally likely (to `below`'s bias). Draw i takes the r-th number not yet taken:

        taken 1, 4 of 0..5 and r = 2:   0 [1] 2 3 [4] 5   ->  r passes 1, becoming 3; 3 < 4, so it is 3
    """
    count = words.shape[-1]
    sizes = np.asarray(size, dtype=np.int64)
    chosen = np.empty(words.shape, dtype=np.int64)
    for i in range(count):
        value = below(words[..., i], sizes - i)  # [...]
        taken = np.sort(chosen[..., :i], axis=-1)  # [..., i]
        for j in range(i):
            value += value >= taken[..., j]
        chosen[..., i] = value
    return chosen
