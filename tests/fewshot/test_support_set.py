"""A support set scores a new video as an episode of its classes and that video does."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.errors import FailedError
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.support_set import SupportSet

pytestmark = pytest.mark.usefixtures("one_thread")

CUBE = (6, 3, 2, 2)
SMALL = {
    "baseline": {"epochs": 5},
    "baselinepp": {"epochs": 5},
    "protogan": {"hidden": 8},
    "arn": {"channels": 16, "width": 4},
    "trx": {"width": 8},
    "cmn_j": {"key_size": 8},
}
VARIANTS = [{"variant": name} for name in ("full", "self", "cross", "neighbor")]
VARIANTS += [{"variant": "neighbor", "test_metric": "flat"}, {"preset": "paper"}, {"adapter": True}]
HEADS = [(name, SMALL.get(name, {})) for name in METHODS if name != "mastaf"] + [
    ("mastaf", words) for words in VARIANTS
]


def build(name, words):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_method(name).build(cube_shape=CUBE, n_train_classes=4, **words)


def draw(counts, queries=2):
    """(cubes float16 [n, c, t, h, w], ways, queries float16 [q, c, t, h, w]), with examples of the classes mixed."""
    rng = np.random.default_rng(0)
    ways = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return (
        rng.random((len(ways), *CUBE)).astype(np.float16),
        ways,
        rng.random((queries, *CUBE)).astype(np.float16),
    )


def slow(method, members, query):
    """Logits [way] of one episode. members: cubes [shot, c, t, h, w] of each class."""
    support = torch.stack([torch.from_numpy(cubes).float() for cubes in members])[None]
    zeros = torch.zeros(1, 1, dtype=torch.int64)
    episode = Episode(support, torch.from_numpy(query).float()[None, None], zeros, torch.full((1, len(members)), -1))
    with torch.no_grad():
        return method.eval().score(episode, EpisodeRandom())[0, 0].numpy()


@pytest.mark.parametrize(("name", "words"), HEADS, ids=lambda value: value if isinstance(value, str) else str(value))
def test_every_head_scores_a_video_as_an_episode_of_it(name, words):
    cubes, ways, queries = draw([2, 2, 2])
    method = build(name, words)
    members = [cubes[ways == way] for way in range(3)]
    found = SupportSet(method, cubes, ways).score(queries)
    for row, query in zip(found, queries, strict=True):
        np.testing.assert_allclose(row, slow(method, members, query), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "words"), [("mastaf", {}), ("mastaf", {"variant": "neighbor"}), ("otam", {})])
def test_leaving_one_out_is_a_support_set_without_it(name, words):
    cubes, ways, _ = draw([1, 3, 2])
    method = build(name, words)
    logits, labels = SupportSet(method, cubes, ways).leave_one_out(100)
    several = [n for n in range(6) if ways[n] != 0]  # of a class with one example nothing can be left out
    assert labels.tolist() == ways[several].tolist()
    for row, n in zip(logits, several, strict=True):
        kept = np.arange(6) != n
        alone = SupportSet(method, cubes[kept], ways[kept]).score(cubes[[n]])[0]
        np.testing.assert_allclose(row, alone, rtol=1e-5, atol=1e-5)


def test_at_most_so_many_are_left_out_spread_over_the_classes():
    cubes, _, _ = draw([5] * 8)
    _, labels = SupportSet(build("protonet", {}), cubes, np.repeat(np.arange(8), 5)).leave_one_out(8)
    assert sorted(labels.tolist()) == list(range(8))


@settings(deadline=None, max_examples=25)
@given(counts=st.lists(st.integers(1, 4), min_size=2, max_size=5))
def test_neighbor_is_the_cosine_with_the_mean_of_a_class_whatever_their_numbers(counts):
    cubes, ways, queries = draw(counts)
    method = build("mastaf", {"variant": "neighbor"})
    found = SupportSet(method, cubes, ways).score(queries)
    for q, query in enumerate(queries.astype(np.float64)):
        for way in range(len(counts)):
            mean = cubes[ways == way].astype(np.float64).mean((0, 2, 3, 4))  # [c]
            asked = query.mean((1, 2, 3))  # [c]
            cosine = mean @ asked / np.linalg.norm(mean) / np.linalg.norm(asked)
            assert found[q, way] == pytest.approx(method.profile.scale * cosine, abs=1e-4)


def test_examples_are_repeated_in_turn_for_a_head_that_reads_each():
    cubes, ways, queries = draw([3, 1, 2])
    method = build("otam", {})
    members = [cubes[ways == way] for way in range(3)]
    filled = [np.stack([own[n % len(own)] for n in range(3)]) for own in members]
    np.testing.assert_allclose(
        SupportSet(method, cubes, ways).score(queries)[0], slow(method, filled, queries[0]), rtol=1e-4, atol=1e-4
    )


def test_maps_that_are_too_large_to_keep_are_made_again(monkeypatch):
    cubes, ways, queries = draw([2, 1, 2])
    method = build("mastaf", {})
    kept = SupportSet(method, cubes, ways).score(queries)
    monkeypatch.setattr("mastaf.fewshot.support_set._KEPT_BYTES", 0)
    np.testing.assert_allclose(SupportSet(method, cubes, ways).score(queries), kept, rtol=1e-5, atol=1e-5)


def test_scores_that_are_no_numbers_are_refused():
    cubes, ways, queries = draw([1, 1])
    method = build("mastaf", {})
    with torch.no_grad():
        next(method.parameters()).fill_(torch.nan)
    with pytest.raises(FailedError, match="not finite"):
        SupportSet(method, cubes, ways).score(queries)
