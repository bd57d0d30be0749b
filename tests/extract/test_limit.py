"""--limit: which videos a limited run takes."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.cache.index import SPLITS, VideoIndex
from mastaf.extract.datasets.limit import spread_rows
from mastaf.extract.errors import ExtractError


def make_index(sizes):
    """sizes: split -> videos of each of its classes."""
    rows = [
        (f"{split}/{c}/{v}", f"{split}{c}", split)
        for split in SPLITS
        for c, count in enumerate(sizes.get(split, []))
        for v in range(count)
    ]
    keys, classes, splits = (tuple(column) for column in zip(*rows, strict=True))
    return VideoIndex(keys, keys, classes, splits, ("",) * len(keys))


def test_a_small_limit_sees_every_split_and_many_classes():
    index = make_index({"train": [9, 9, 9], "val": [9, 9], "test": [9, 9]})
    assert [index.keys[row] for row in spread_rows(index, 4)] == ["train/0/0", "train/1/0", "val/0/0", "test/0/0"]


def test_a_split_that_runs_out_leaves_its_turns_to_the_others():
    index = make_index({"train": [1], "test": [5, 1]})
    assert [index.keys[row] for row in spread_rows(index, 5)] == [
        *("train/0/0", "test/0/0", "test/0/1", "test/0/2", "test/1/0"),
    ]


sizes = st.dictionaries(st.sampled_from(SPLITS), st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 60))
def test_the_choice_is_even_and_only_grows(sizes, limit):
    index = make_index(sizes)
    rows = spread_rows(index, limit)
    assert len(rows) == len(set(rows)) == min(limit, len(index))
    assert rows == sorted(rows)
    assert set(rows) <= set(spread_rows(index, limit + 1))
    for of, members in (("splits", index.splits), ("classes", index.classes)):
        taken, whole = Counter(members[row] for row in rows), Counter(members)
        for a in taken:
            for b in taken:
                same = of == "splits" or a.startswith(b.rstrip("0123456789"))
                # Whoever got fewer by more than one turn has no more to give.
                assert not same or taken[a] <= taken[b] + 1 or taken[b] == whole[b]


def test_a_limit_of_none_is_refused():
    with pytest.raises(ExtractError, match=r"limit \(0\) must be at least 1"):
        spread_rows(make_index({"test": [2]}), 0)
