"""Which frames of a video make a clip: pure integers, the same on every machine.

Rule A (`even`), the deterministic sampling used for training and testing by the public few-shot action code:

    n = 10 frames in the video      0  1  2  3  4  5  6  7  8  9
    m = 4 wanted                    ^        ^        ^        ^      k * (n - 1) // (m - 1)
                                    0        3        6        9

    n = 3, m = 8: a short video     0  1  2
    repeats its frames              0 0 0 0 1 1 1 2

The other two rules are controls that destroy motion: `middle` shows one frame m times, `shuffled` shows the
even frames in an order drawn per video.
"""

import hashlib

from ..cache.console import unknown_name
from .errors import ExtractError

SAMPLING_RULES = ("even", "middle", "shuffled")


def even_indices(n: int, m: int) -> list[int]:
    """m frame numbers spread evenly over 0..n-1, first and last included; `[0]` when m is 1.

    In integers: 6.9999 never becomes 6. Frames repeat when n < m.
    """
    _check(n, m)
    return [k * (n - 1) // max(m - 1, 1) for k in range(m)]


def select_indices(rule: str, n: int, m: int, *, key: str) -> list[int]:
    """m frame numbers in 0..n-1 by `rule` (one of `SAMPLING_RULES`); only `shuffled` looks at `key`."""
    if rule == "even":
        return even_indices(n, m)
    if rule == "middle":
        _check(n, m)
        return [(n - 1) // 2] * m
    if rule == "shuffled":
        even = even_indices(n, m)
        return [even[k] for k in _permutation(m, key)]
    raise ExtractError(unknown_name("sampling rule", rule, SAMPLING_RULES))


def _permutation(m: int, key: str) -> list[int]:
    """0..m-1 in an order that depends on `key` alone.

    Fisher-Yates over raw Philox words: numpy's `permutation` may change its stream between versions, raw bits do
    not. A word modulo k is biased by less than 1e-17 for any clip length.
    """
    from numpy.random import Philox

    words = Philox(key=_philox_key(key)).random_raw(m)  # uint64 [m]
    order = list(range(m))
    for k in range(m - 1, 0, -1):
        other = int(words[k]) % (k + 1)
        order[k], order[other] = order[other], order[k]
    return order


def _philox_key(key: str) -> int:
    """128 bits of the key's sha256; a file name that is not UTF-8 keeps its bytes."""
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:16], "little")


def _check(n: int, m: int) -> None:
    if n < 1:
        raise ValueError(f"n ({n}) must be at least 1: a video without frames has nothing to sample")
    if m < 1:
        raise ValueError(f"m ({m}) must be at least 1; ask for one frame or more")
