"""Episodes are a pure function of their number, and are what they should be."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.episodes.philox import key_of, random_words
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.errors import FewShotError


def videos(sizes):
    """Keys and classes of a split, classes interleaved."""
    pairs = [(f"c{c:02d}/v{i:04d}.mp4", f"c{c:02d}") for c, size in enumerate(sizes) for i in range(size)]
    pairs.sort(key=lambda pair: hash_order(pair[0]))
    return [key for key, _ in pairs], [name for _, name in pairs]


def hash_order(text):
    return sum(ord(letter) * (i + 3) ** 2 for i, letter in enumerate(text)) % 97, text


def sampler(sizes=(9, 6, 30, 7, 8), **changes):
    keys, classes = videos(sizes)
    return EpisodeSampler(**{"keys": keys, "classes": classes, "split": "test", "way": 3, "shot": 2, **changes})


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(7, 40), min_size=2, max_size=8),
    way=st.integers(1, 8),
    shot=st.integers(1, 4),
    queries=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
    single=st.booleans(),
)
def test_every_episode_is_a_fair_one(sizes, way, shot, queries, seed, single):
    way = min(way, len(sizes))
    keys, classes = videos(sizes)
    mode, queries = ("single", 1) if single else ("per_class", queries)
    draw = EpisodeSampler(
        keys=keys, classes=classes, split="val", way=way, shot=shot, query_mode=mode, queries=queries, seed=seed
    )
    rows = draw.rows(5, 20)
    q = draw.queries_per_episode
    assert rows.support.shape == (20, way, shot)
    assert rows.query.shape == rows.labels.shape == (20, q)
    assert draw.class_names == sorted(set(classes))
    for i in range(20):
        names = [draw.class_names[c] for c in rows.classes[i]]
        assert len(set(names)) == way
        assert [[classes[row] for row in shots] for shots in rows.support[i]] == [[name] * shot for name in names]
        assert [classes[row] for row in rows.query[i]] == [names[label] for label in rows.labels[i]]
        used = [*rows.support[i].flatten(), *rows.query[i]]
        assert len(set(used)) == len(used)
        if not single:
            assert Counter(rows.labels[i].tolist()) == dict.fromkeys(range(way), queries)


def test_an_episode_does_not_depend_on_its_batch():
    draw = sampler()
    whole = draw.rows(0, 50)
    for start, count in ((0, 1), (13, 7), (49, 1)):
        part = draw.rows(start, count)
        for name in ("support", "query", "labels", "classes"):
            assert (getattr(part, name) == getattr(whole, name)[start : start + count]).all()
    assert len(draw.rows(3, 0)) == 0


def test_an_episode_does_not_depend_on_the_order_of_the_videos():
    keys, classes = videos((9, 6, 30, 7, 8))
    other = list(reversed(range(len(keys))))
    first = sampler().rows(0, 30)
    second = sampler(keys=[keys[i] for i in other], classes=[classes[i] for i in other]).rows(0, 30)
    assert (np.array(keys)[first.support] == np.array([keys[i] for i in other])[second.support]).all()
    assert (np.array(keys)[first.query] == np.array([keys[i] for i in other])[second.query]).all()


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"split": "val"}, {"way": 4}, {"shot": 3}, {"query_mode": "per_class"}]
)
def test_each_number_that_names_a_list_changes_it(change):
    first, second = sampler().rows(0, 200), sampler(**change).rows(0, 200)
    same = (first.classes[:, 0] == second.classes[:, 0]).mean()
    assert same < 0.4  # five classes: 0.2 by chance


def recipe(number, keys, classes, *, split, way, shot, query_mode, queries, seed):
    """Episode `number` as keys, by the documented recipe in plain integers: (ways, queries with their way)."""
    key = key_of("mastaf episodes 1", seed, split, way, shot, query_mode, queries)
    each = shot + queries
    words = iter(random_words(key, np.array([number], dtype=np.uint64), way + 1 + way * each)[0].tolist())

    def pop(left):
        return left.pop(next(words) * len(left) >> 64)

    names = sorted(set(classes))
    ways = [pop(names) for _ in range(way)]
    asked = next(words) * way >> 64
    taken = []
    for name in ways:
        left = sorted(k for k, c in zip(keys, classes, strict=True) if c == name)
        taken.append([pop(left) for _ in range(each)])
    support = [videos[:shot] for videos in taken]
    if query_mode == "single":
        return support, [(taken[asked][shot], asked)]
    return support, [(k, n) for n, videos in enumerate(taken) for k in videos[shot:]]


@pytest.mark.parametrize(("query_mode", "queries"), [("single", 1), ("per_class", 2)])
def test_an_episode_follows_the_documented_recipe(query_mode, queries):
    keys, classes = videos((9, 6, 30, 7, 8))
    named = {"split": "val", "way": 4, "shot": 3, "query_mode": query_mode, "queries": queries, "seed": 17}
    rows = sampler(**named).rows(2**33, 15)
    for i in range(15):
        support, query = recipe(2**33 + i, keys, classes, **named)
        assert [[keys[row] for row in way] for way in rows.support[i]] == support
        assert [(keys[row], n) for row, n in zip(rows.query[i], rows.labels[i], strict=True)] == query


def test_draws_are_uniform():
    draw = sampler((4, 12, 5, 7), way=2, shot=2)
    rows = draw.rows(0, 24_000)
    expected = 24_000 / 12
    ordered = Counter(map(tuple, rows.classes.tolist()))  # 12 ordered pairs of classes
    assert len(ordered) == 12
    assert all(abs(count - expected) < 5 * expected**0.5 for count in ordered.values())
    for position in range(2):  # each video of a class is as likely as another, at either place
        for c, size in enumerate((4, 12, 5, 7)):
            seen = Counter(rows.support[rows.classes == c][:, position].tolist())
            share = sum(seen.values()) / size
            assert len(seen) == size
            assert all(abs(count - share) < 5 * share**0.5 for count in seen.values())
    assert abs((rows.labels == 0).mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"way": 2, "keys": ["a"], "classes": ["a"]}, "must be at most the 1 class of split 'test'"),
        ({"way": 6}, r"way \(6\) must be at most the 5 classes of split 'test'; lower --way"),
        ({"shot": 6}, r"shot \(6\) \+ queries \(1\) need 7 videos a class, but 'c01' of split 'test' has 6"),
        ({"query_mode": "per_class", "queries": 5}, r"need 7 videos a class, but 'c01'"),
        ({"way": 0}, r"way \(0\) must be at least 1"),
        ({"shot": 0}, r"shot \(0\) must be at least 1"),
        ({"query_mode": "per_class", "queries": 0}, r"queries \(0\) must be at least 1"),
        ({"queries": 2}, r"queries \(2\) must be 1 in query mode 'single'"),
        ({"query_mode": "all"}, r"query_mode \('all'\) must be one of single, per_class"),
        ({"seed": -1}, r"seed \(-1\) must be from 0"),
        ({"seed": 2**64}, r"seed \(\d+\) must be from 0"),
        ({"keys": [], "classes": []}, "split 'test' has no videos"),
        ({"keys": ["a"]}, r"must have one length"),
    ],
)
def test_what_cannot_be_sampled_is_said(change, words):
    with pytest.raises(FewShotError, match=words):
        sampler(**change)


def test_negative_episode_numbers_are_refused():
    with pytest.raises(FewShotError, match="must not be negative"):
        sampler().rows(-1, 2)
