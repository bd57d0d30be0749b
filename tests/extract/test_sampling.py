"""Which frames make a clip."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.extract.sampling import SAMPLING_RULES, even_indices, select_indices

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
