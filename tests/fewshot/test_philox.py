"""Philox4x32-10 and the integers made of it."""

import itertools
from collections import Counter

import numpy as np
import pytest
from mastaf.fewshot.episodes.philox import below, distinct, key_of, philox4x32, random_words

# Random123 1.14, tests/kat_vectors, the rows `philox4x32 10`: counter, key, expected.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    lanes = [np.array([[word, 1]], dtype=np.uint64) for word in counter]  # the second column must not matter
    got = philox4x32(lanes, (key[0], key[1]))
    assert [int(lane[0, 0]) for lane in got] == expected
    assert all(lane.shape == (1, 2) for lane in got)


def test_words_are_the_blocks_of_the_stream_number():
    stream = (3 << 32) + 5
    words = random_words((11, 22), np.array([7, stream], dtype=np.uint64), 3)
    for block, index in ((0, 0), (1, 2)):
        lanes = [np.array([value], dtype=np.uint64) for value in (block, 0, 5, 3)]
        low, high = philox4x32(lanes, (11, 22))[:2]
        assert int(words[1, index]) == int(low[0]) + (int(high[0]) << 32)
    assert words.shape == (2, 3)


def test_below_is_the_high_half_of_the_exact_product():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, 500, dtype=np.uint64)
    words[:2] = 0, 2**64 - 1
    for bound in (1, 2, 5, 3170, 2**31, 2**32 - 1):
        expected = [int(word) * bound >> 64 for word in words]
        assert below(words, bound).tolist() == expected


def test_distinct_gives_every_ordered_choice_equally_often():
    words = random_words(key_of("uniform"), np.arange(12_000, dtype=np.uint64), 3)
    counts = Counter(map(tuple, distinct(words, 4).tolist()))
    assert set(counts) == set(itertools.permutations(range(4), 3))
    chi2 = sum((count - 500) ** 2 / 500 for count in counts.values())
    assert chi2 < 49.7  # 23 degrees of freedom: the 0.999 quantile; the draws are fixed, so this cannot flicker


def test_distinct_with_a_size_for_each_row():
    sizes = np.array([3, 4, 100, 5])
    words = random_words((1, 2), np.arange(4, dtype=np.uint64), 3)
    for row, size in zip(distinct(words, sizes), sizes, strict=True):
        assert len(set(row.tolist())) == 3
        assert row.min() >= 0
        assert row.max() < size


def test_distinct_is_a_draw_from_the_numbers_left():
    words = random_words((5, 6), np.arange(50, dtype=np.uint64), 6)
    slow = []
    for row in words:
        left = list(range(9))
        slow.append([left.pop(int(word) * len(left) >> 64) for word in row])
    assert distinct(words, 9).tolist() == slow


def test_keys_differ_by_every_part():
    keys = {key_of("a", 1), key_of("a", 2), key_of("b", 1), key_of("a", "1"), key_of("a1")}
    assert len(keys) == 5
    assert all(0 <= half < 2**32 for key in keys for half in key)
