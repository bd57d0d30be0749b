"""Which frames of a video make a clip: pure integers, the same on every machine.

Rule A (`even`), the deterministic sampling used for training and testing by the public few-shot action code:

    n = 10 frames in the video      0  1  2  3  4  5  6  7  8  9
    m = 4 wanted                    ^        ^        ^        ^      k * (n - 1) // (m - 1)
                                    0        3        6        9

    n = 3, m = 8: a short video     0  1  2
    repeats its frames              0 0 0 0 1 1 1 2

`middle` and `shuffled` are controls that destroy motion: one frame m times, or the even frames in an order drawn
per video.

Rule B (`jitter_indices`, the views t1, t2, ...) draws the first and the last frame, and is as even between them:

    n = 10, m = 4                   p = min(5, (10 - 4) // 2) = 3
    first s of 0..p = 0..3                1
    last e of n-1-p..n-1 = 6..9                          7
                                    0  1  2  3  4  5  6  7  8  9
                                       ^     ^     ^     ^         s + k * (e - s) // (m - 1)
                                       1     3     5     7

    n <= m + 1: p = 0, so nothing is drawn, and it is rule A; n = m takes every frame
"""

import hashlib

from ...cache.console import unknown_name
from ..errors import ExtractError

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


def jitter_indices(n: int, m: int, *, name: str, key: str) -> list[int]:
    """m frame numbers in 0..n-1 by rule B.

    The first frame is drawn from 0..p and the last from n-1-p..n-1, p = min(5, (n - m) // 2), by the first two
    Philox words of a key that is a function of `name` (`t1`, `t2`, ...) and the video's `key` alone. Each is taken
    modulo p + 1, which biases it by less than 1e-18. When p < 1 the draws are 0 and n-1.
    """
    _check(n, m)
    slack = min(5, (n - m) // 2)
    start, end = 0, n - 1
    if slack >= 1:
        first, second = _words(f"{name}\0{key}", 2)  # no path holds a NUL: no two draws share their words
        start, end = first % (slack + 1), n - 1 - slack + second % (slack + 1)
    return [start + k * (end - start) // max(m - 1, 1) for k in range(m)]


def _permutation(m: int, key: str) -> list[int]:
    """0..m-1 in an order that depends on `key` alone.

    Fisher-Yates. A word modulo k is biased by less than 1e-17 for any clip length.
    """
    words = _words(key, m)
    order = list(range(m))
    for k in range(m - 1, 0, -1):
        other = words[k] % (k + 1)
        order[k], order[other] = order[other], order[k]
    return order


def _words(seed: str, count: int) -> list[int]:
    """The first words, of 64 bits, that Philox4x64-10 gives for 128 bits of the seed's sha256.

    Raw ones: numpy's distributions and `permutation` may change their streams between versions, raw bits do not. A
    file name that is not UTF-8 keeps its bytes.
    """
    from numpy.random import Philox

    digest = hashlib.sha256(seed.encode("utf-8", "surrogateescape")).digest()
    return [int(word) for word in Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)]


def _check(n: int, m: int) -> None:
    if n < 1:
        raise ValueError(f"n ({n}) must be at least 1: a video without frames has nothing to sample")
    if m < 1:
        raise ValueError(f"m ({m}) must be at least 1; ask for one frame or more")
