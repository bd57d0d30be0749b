"""Differences, their tests and the spread between seeds, against slow versions and worked examples."""

import math
import random
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.records import Predictions
from mastaf.fewshot.statistics.paired import paired_difference
from mastaf.fewshot.statistics.seed_spread import seed_spread
from mastaf.fewshot.statistics.significance import holm, mcnemar_p

EPISODES, WAY, CLASSES, VIDEOS = 300, 3, 6, 40


def answers(seed: int, ease: float, questions: int = 0) -> Predictions:
    """A head that is right with probability `ease`; the same `questions` ask the same queries."""
    asked, rng = np.random.default_rng(questions), np.random.default_rng(seed)
    classes = np.stack([asked.permutation(CLASSES)[:WAY] for _ in range(EPISODES)])  # [m, way]
    label = asked.integers(0, WAY, EPISODES)
    row = classes[np.arange(EPISODES), label] * VIDEOS + asked.integers(0, VIDEOS, EPISODES)
    predicted = np.where(rng.random(EPISODES) < ease, label, (label + 1) % WAY)
    logits = np.eye(WAY, dtype=np.float32)[predicted]
    names = tuple("abcdef")
    return Predictions(np.arange(EPISODES), row, label, predicted, logits, classes, names)


def test_a_difference_equals_loops() -> None:
    a, b = answers(1, 0.8), answers(2, 0.6)
    found = paired_difference([a], [b])
    each = [int(x) - int(y) for x, y in zip(a.correct.tolist(), b.correct.tolist(), strict=True)]
    assert found.mean == pytest.approx(statistics.mean(each))
    assert found.ci95 == pytest.approx(1.96 * statistics.stdev(each) / EPISODES**0.5)
    assert (found.only_first, found.only_second) == ((each.count(1),), (each.count(-1),))
    assert found.p == found.p_holm == mcnemar_p(each.count(1), each.count(-1))
    assert found.spread is None
    assert not found.within_noise


def test_the_clustered_interval_of_a_difference_agrees_with_a_slow_bootstrap() -> None:
    a, b = answers(1, 0.8), answers(2, 0.6)
    of_class: dict[int, dict[int, list[int]]] = {}
    for n in range(EPISODES):
        videos = of_class.setdefault(int(a.query_class[n]), {})
        videos.setdefault(int(a.query_row[n]), []).append(int(a.correct[n]) - int(b.correct[n]))
    rng, slow = random.Random(0), []
    for _ in range(2000):
        kept: list[int] = []
        for name in rng.choices(list(of_class), k=len(of_class)):
            for video in rng.choices(list(of_class[name]), k=len(of_class[name])):
                kept += of_class[name][video]
        slow.append(sum(kept) / len(kept))
    slow.sort()
    low, high = paired_difference([a], [b]).ci95_clustered
    width = slow[1949] - slow[50]
    assert low == pytest.approx(slow[50], abs=0.12 * width)
    assert high == pytest.approx(slow[1949], abs=0.12 * width)


def test_equal_heads_are_within_noise() -> None:
    a = answers(1, 0.7)
    found = paired_difference([a], [a])
    assert (found.mean, found.p, found.within_noise) == (0, 1, True)


def test_swapping_the_heads_turns_the_sign() -> None:
    a, b = answers(1, 0.8), answers(2, 0.6)
    there, back = paired_difference([a], [b]), paired_difference([b], [a])
    assert there.mean == -back.mean
    assert there.p == back.p
    assert there.ci95_clustered == pytest.approx([-side for side in reversed(back.ci95_clustered)])


def test_each_kind_of_doubt_makes_it_noise() -> None:
    sure = paired_difference([answers(1, 0.8)], [answers(2, 0.6)])
    assert sure.corrected(0.04).within_noise is False
    assert sure.corrected(0.05).within_noise is True
    # Large and clear for each seed, but of another sign for one of them.
    first = [answers(1, 0.8), answers(2, 0.8), answers(3, 0.4)]
    second = [answers(4, 0.5), answers(5, 0.5), answers(6, 0.6)]
    moved = paired_difference(first, second)
    assert moved.spread is not None
    assert abs(moved.spread.mean) < moved.spread.ci95
    assert moved.corrected(0.0).within_noise


def test_seeds_are_averaged_and_the_least_sure_one_counts() -> None:
    first, second = [answers(n, 0.8) for n in (1, 2)], [answers(n, 0.7) for n in (3, 4)]
    each = [paired_difference([a], [b]) for a, b in zip(first, second, strict=True)]
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(statistics.mean(d.mean for d in each))
    assert found.p == max(d.p for d in each)
    assert found.only_first == tuple(d.only_first[0] for d in each)
    assert found.spread is not None
    assert found.spread.sd == pytest.approx(statistics.stdev(d.mean for d in each))


def test_only_the_same_queries_are_compared() -> None:
    with pytest.raises(FewShotError, match="same episodes"):
        paired_difference([answers(1, 0.8)], [answers(1, 0.8, questions=1)])
    with pytest.raises(FewShotError, match="equally many seeds"):
        paired_difference([answers(1, 0.8)] * 2, [answers(1, 0.8)])


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int) -> None:
    n, k = only_first + only_second, min(only_first, only_second)
    tail = sum(Fraction(math.comb(n, i), 2**n) for i in range(k + 1))
    assert mcnemar_p(only_first, only_second) == pytest.approx(float(min(1, 2 * tail)))


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(FewShotError, match="must not be negative"):
        mcnemar_p(-1, 3)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p: list[float]) -> None:
    corrected = holm(p)
    for alpha in (0.01, 0.05, 0.3):
        rejected = set()
        for step, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
            if p[place] * (len(p) - step) > alpha:
                break
            rejected.add(place)
        assert {i for i, value in enumerate(corrected) if value <= alpha} == rejected


def test_what_is_no_p_value_is_refused() -> None:
    with pytest.raises(FewShotError, match="from 0 to 1"):
        holm([0.5, float("nan")])


def test_the_spread_of_three_seeds() -> None:
    found = seed_spread([0.50, 0.53, 0.59])
    assert (found.seeds, found.low, found.high) == (3, 0.50, 0.59)
    assert found.mean == pytest.approx(0.54)
    assert found.sd == pytest.approx(math.sqrt((0.04**2 + 0.01**2 + 0.05**2) / 2))
    assert found.ci95 == pytest.approx(4.30265 * found.sd / math.sqrt(3), rel=1e-5)  # t of 2 degrees, from a table
    with pytest.raises(FewShotError, match="at least 2 seeds"):
        seed_spread([0.5])


def test_equal_heads_on_re_used_videos_are_rarely_called_different() -> None:
    """Heads that are alike on the whole, each with videos that it finds easy: McNemar's test is fooled, the verdict is
    not."""
    asked, videos = 2000, 40
    rng = np.random.default_rng(0)
    fooled = called = 0
    for _ in range(60):
        owner = np.repeat(np.arange(CLASSES), videos)
        ease = 0.7 + 0.15 * rng.standard_normal(CLASSES)[owner]  # of the class, for both
        classes = np.stack([rng.permutation(CLASSES)[:WAY] for _ in range(asked)])  # [m, way]
        label = rng.integers(0, WAY, asked)
        row = classes[np.arange(asked), label] * videos + rng.integers(0, videos, asked)
        heads = []
        for _head in range(2):
            own = np.clip(ease + 0.2 * rng.standard_normal(len(owner)), 0, 1)
            predicted = np.where(rng.random(asked) < own[row], label, (label + 1) % WAY)
            logits = np.eye(WAY, dtype=np.float32)[predicted]
            heads.append(Predictions(np.arange(asked), row, label, predicted, logits, classes, tuple("abcdef")))
        found = paired_difference(heads[:1], heads[1:])
        fooled += found.p < 0.05
        called += not found.within_noise
    assert fooled > 6  # more than twice the 5 % that it promises
    assert called <= 3
