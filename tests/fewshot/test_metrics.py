"""Accuracies and intervals against loops."""

import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.statistics.metrics import clustered_ci95, episode_accuracy, mean_and_ci95, per_class_accuracy


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 2**32))
def test_mean_and_interval_equal_loops(episodes: int, queries: int, seed: int) -> None:
    correct = np.random.default_rng(seed).random((episodes, queries)) < 0.6
    accuracies = [sum(map(int, episode)) / queries for episode in correct.tolist()]
    mean, half = mean_and_ci95(episode_accuracy(correct))
    assert mean == pytest.approx(statistics.mean(accuracies), abs=1e-12)
    assert half == pytest.approx(1.96 * statistics.stdev(accuracies) / episodes**0.5, abs=1e-12)


def test_one_episode_has_no_interval() -> None:
    with pytest.raises(FewShotError, match="at least 2 episodes"):
        mean_and_ci95(np.array([1.0]))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**32))
def test_per_class_equals_loops(episodes: int, queries: int, n_classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    correct, classes = rng.random((episodes, queries)) < 0.5, rng.integers(0, n_classes, (episodes, queries))
    names = [f"c{n}" for n in range(n_classes)]
    expected = {}
    for n, name in enumerate(names):
        answers = [correct[e, q] for e in range(episodes) for q in range(queries) if classes[e, q] == n]
        if answers:
            expected[name] = (pytest.approx(sum(answers) / len(answers)), len(answers))
    assert per_class_accuracy(correct, classes, names) == expected


def answers(seed: int = 0, *, class_spread: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """400 episodes of 2 queries about 5 classes of 4 to 8 videos; classes and videos differ in difficulty."""
    rng = np.random.default_rng(seed)
    sizes = [4, 5, 6, 7, 8]
    owner = np.repeat(np.arange(5), sizes)
    ease = np.clip(0.6 + class_spread * rng.standard_normal(5)[owner] + 0.1 * rng.standard_normal(len(owner)), 0, 1)
    videos = rng.integers(0, len(owner), (400, 2))
    return rng.random((400, 2)) < ease[videos], videos + 100, owner[videos]


def bootstrap_by_loops(
    correct: np.ndarray, videos: np.ndarray, classes: np.ndarray, resamples: int, rng: random.Random
) -> list[float]:
    """The same resampling, one query at a time."""
    of_class: dict[int, dict[int, list[bool]]] = {}
    for hit, video, name in zip(correct.ravel(), videos.ravel(), classes.ravel(), strict=True):
        of_class.setdefault(int(name), {}).setdefault(int(video), []).append(bool(hit))
    found = []
    for _ in range(resamples):
        kept: list[bool] = []
        for name in rng.choices(list(of_class), k=len(of_class)):
            for video in rng.choices(list(of_class[name]), k=len(of_class[name])):
                kept += of_class[name][video]
        found.append(sum(kept) / len(kept))
    return sorted(found)


@pytest.mark.parametrize(("seed", "spread"), [(0, 0.3), (1, 0.3), (2, 0.0)])
def test_clustered_interval_agrees_with_a_slow_bootstrap(seed: int, spread: float) -> None:
    correct, videos, classes = answers(seed, class_spread=spread)
    slow = bootstrap_by_loops(correct, videos, classes, 3000, random.Random(seed))
    low, high = clustered_ci95(correct, videos, classes)
    # Two Monte Carlo estimates of one quantile.
    width = slow[2925] - slow[75]
    assert low == pytest.approx(slow[75], abs=0.1 * width)
    assert high == pytest.approx(slow[2925], abs=0.1 * width)
    plain = 2 * mean_and_ci95(episode_accuracy(correct))[1]
    assert width > (3 if spread else 1.3) * plain


def test_clustered_interval_of_independent_answers_is_close_to_the_plain_one() -> None:
    rng = np.random.default_rng(3)
    correct = rng.random((4000, 1)) < 0.7
    videos = np.arange(4000)[:, None]  # each query its own video
    low, high = clustered_ci95(correct, videos, videos % 200)
    mean, half = mean_and_ci95(episode_accuracy(correct))
    assert (high - low) / 2 == pytest.approx(half * 2**0.5, rel=0.15)  # both stages resample: twice the variance
    assert low < mean < high


def test_clustered_interval_is_reproducible() -> None:
    data = answers()
    first = clustered_ci95(*data, seed=5)
    assert clustered_ci95(*data, seed=5) == first
    assert clustered_ci95(*data, seed=6) != first
    assert clustered_ci95(np.ones_like(data[0]), *data[1:]) == (1.0, 1.0)


def test_clustered_interval_in_small_blocks_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    data = answers()
    whole = clustered_ci95(*data)
    monkeypatch.setattr("mastaf.fewshot.statistics.metrics._DRAWS_PER_BLOCK", 1000)
    assert clustered_ci95(*data) == pytest.approx(whole, abs=0.02)
