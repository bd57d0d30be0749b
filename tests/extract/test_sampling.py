"""Which frames make a clip."""

import hashlib
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.extract.decoding.sampling import SAMPLING_RULES, even_indices, jitter_indices, select_indices

counts = st.integers(1, 10_000)
wanted = st.integers(1, 64)


def by_fractions(n: int, m: int) -> list[int]:
    """Rule A by long division, without a product that is divided."""
    indices, whole, rest = [], 0, 0
    for _ in range(m):
        indices.append(whole)
        rest += n - 1
        while m > 1 and rest >= m - 1:
            whole, rest = whole + 1, rest - (m - 1)
    return indices


@given(counts, wanted)
def test_even_is_rule_a(n: int, m: int) -> None:
    indices = even_indices(n, m)
    if m > 1:
        assert indices == by_fractions(n, m)
        assert (indices[0], indices[-1]) == (0, n - 1)
        steps = {after - before for before, after in pairwise(indices)}
        assert max(steps) - min(steps) <= 1
    assert len(indices) == m


def test_examples_of_the_docstring() -> None:
    assert even_indices(10, 4) == [0, 3, 6, 9]
    assert even_indices(3, 8) == [0, 0, 0, 0, 1, 1, 1, 2]
    assert even_indices(7, 1) == [0]
    assert even_indices(1, 3) == [0, 0, 0]
    assert linspace(1, 7, 4) == [1, 3, 5, 7]
    assert [1, 3, 5, 7] in [jitter_indices(10, 4, name="t1", key=str(k)) for k in range(400)]


@given(counts, wanted)
def test_middle_repeats_one_frame(n: int, m: int) -> None:
    indices = select_indices("middle", n, m, key="a")
    assert len(set(indices)) == 1
    assert len(indices) == m
    assert abs(2 * indices[0] - (n - 1)) <= 1


@given(counts, wanted, st.text())
def test_shuffled_is_a_permutation_of_even_fixed_by_the_key(n: int, m: int, key: str) -> None:
    indices = select_indices("shuffled", n, m, key=key)
    assert sorted(indices) == even_indices(n, m)
    assert indices == select_indices("shuffled", n, m, key=key)


def test_shuffled_differs_between_keys_and_visits_every_place() -> None:
    orders = [tuple(select_indices("shuffled", 16, 16, key=str(k))) for k in range(400)]
    assert len(set(orders)) == 400
    for place in range(16):
        assert {order[place] for order in orders} == set(range(16))


def test_shuffled_takes_a_key_that_is_not_utf8() -> None:
    assert len(select_indices("shuffled", 9, 4, key="caf\udce9")) == 4


@pytest.mark.parametrize("rule", SAMPLING_RULES)
@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0), (-1, 2)])
def test_nothing_to_sample_is_an_error(rule: str, n: int, m: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        select_indices(rule, n, m, key="")


def test_unknown_rule_suggests_the_closest() -> None:
    with pytest.raises(ValueError, match="did you mean even"):
        select_indices("evn", 4, 4, key="")


def philox4x64(key: int) -> list[int]:
    """The first block of a fresh numpy Philox, by the formulas of Salmon et al. (SC 2011): counter 1, ten rounds."""
    low, high = key & (1 << 64) - 1, key >> 64
    c = [1, 0, 0, 0]
    for _ in range(10):
        first, second = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = [second >> 64 ^ c[1] ^ low, second, first >> 64 ^ c[3] ^ high, first]
        c = [word & (1 << 64) - 1 for word in c]
        low, high = low + 0x9E3779B97F4A7C15 & (1 << 64) - 1, high + 0xBB67AE8584CAA73B & (1 << 64) - 1
    return c


def linspace(start: int, end: int, m: int) -> list[int]:
    """m evenly spaced numbers from start to end, exact, then truncated."""
    step = Fraction(end - start, max(m - 1, 1))
    return [int(start + k * step) for k in range(m)]


def rule_b(n: int, m: int, name: str, key: str) -> list[int]:
    """Rule B word for word: p = int(min(5, (n - m) / 2)); none: the whole video; n = m: every frame."""
    if n == m:
        return list(range(n))
    p = int(min(5, (n - m) / 2))
    if p < 1:
        return linspace(0, n - 1, m)
    digest = hashlib.sha256(name.encode() + b"\0" + key.encode("utf-8", "surrogateescape")).digest()
    first, second, _, _ = philox4x64(int.from_bytes(digest[:16], "little"))
    starts, ends = list(range(p + 1)), list(range(n - 1 - p, n))
    return linspace(starts[first % len(starts)], ends[second % len(ends)], m)


@given(st.one_of(counts, st.integers(1, 80)), wanted, st.sampled_from(["t1", "t2", "t9999"]), st.text())
def test_jitter_is_rule_b(n: int, m: int, name: str, key: str) -> None:
    indices = jitter_indices(n, m, name=name, key=key)
    assert indices == rule_b(n, m, name, key)
    assert len(indices) == m
    assert 0 <= min(indices) <= max(indices) < n
    if n <= m + 1:
        assert indices == even_indices(n, m)
    elif m > 1:
        assert len(set(indices)) == m
        assert indices[0] <= 5
        assert indices[-1] >= n - 6


def test_jitter_visits_every_first_and_last_frame_alike() -> None:
    draws = [jitter_indices(100, 16, name="t1", key=str(k)) for k in range(3600)]
    ends = [(draw[0], draw[-1]) for draw in draws]
    counts_of = {end: ends.count(end) for end in set(ends)}
    assert set(counts_of) == {(s, 99 - e) for s in range(6) for e in range(6)}
    assert max(counts_of.values()) < 160  # 100 expected, standard deviation 10
    assert min(counts_of.values()) > 50


def test_jitter_differs_between_names_and_keys() -> None:
    by_name = [[jitter_indices(100, 16, name=name, key=str(k)) for k in range(100)] for name in ("t1", "t2")]
    same = sum(one == other for one, other in zip(*by_name, strict=True))
    assert same < 15  # one in 36
    assert len(jitter_indices(9, 4, name="t1", key="caf\udce9")) == 4


@pytest.mark.parametrize(("n", "m"), [(0, 4), (4, 0)])
def test_nothing_to_jitter_is_an_error(n: int, m: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        jitter_indices(n, m, name="t1", key="")
