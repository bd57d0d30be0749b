"""Calibration and confusion against loops."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.records import Predictions
from mastaf.fewshot.statistics.calibration import confidences, expected_calibration_error
from mastaf.fewshot.statistics.confusion import confusion_of


def slow_ece(logits: np.ndarray, labels: np.ndarray, bins: int) -> float:
    total = 0.0
    for n in range(bins):
        inside = []
        for line, label in zip(logits.tolist(), labels.tolist(), strict=True):
            powers = [math.exp(x) for x in line]
            confidence = max(powers) / sum(powers)
            if n / bins < confidence <= (n + 1) / bins:
                inside.append((confidence, line.index(max(line)) == label))
        if inside:
            share = sum(right for _, right in inside) / len(inside)
            total += len(inside) * abs(share - sum(c for c, _ in inside) / len(inside))
    return total / len(labels)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(2, 6), st.integers(2, 20), st.floats(0.1, 8), st.integers(0, 2**32))
def test_ece_equals_loops(m: int, way: int, bins: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = scale * rng.standard_normal((m, way)), rng.integers(0, way, m)
    assert expected_calibration_error(logits, labels, bins=bins) == pytest.approx(slow_ece(logits, labels, bins))


def test_confidence_that_keeps_its_word_has_no_error() -> None:
    # Two ways, confidence 0.8 (log-odds of 4 : 1), and four of five right.
    logits = np.tile(np.float32([math.log(4), 0]), (500, 1))
    labels = np.tile([0, 0, 0, 0, 1], 100)
    assert expected_calibration_error(logits, labels) == pytest.approx(0, abs=1e-6)
    assert expected_calibration_error(logits, np.zeros(500, dtype=np.int64)) == pytest.approx(0.2, abs=1e-6)


def test_an_interval_holds_its_upper_end() -> None:
    # Confidence 1/2, wrong, and 3/4, right, in the intervals (0, 1/2] and (1/2, 1].
    logits = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    assert expected_calibration_error(logits, np.array([1, 0]), bins=2) == pytest.approx((0.5 + 0.25) / 2)


def test_huge_logits_do_not_overflow() -> None:
    logits = np.float32([[3e38, 0], [-3e38, 0]])
    assert confidences(logits).tolist() == [1, 1]
    assert expected_calibration_error(logits, np.array([0, 1])) == 0


def test_confusion_equals_loops() -> None:
    rng = np.random.default_rng(0)
    m, way, names = 200, 3, ("a", "b", "c", "d", "e")
    classes = np.stack([rng.permutation(5)[:way] for _ in range(m)])
    label = rng.integers(0, way, m)
    logits = rng.standard_normal((m, way)).astype(np.float32)
    made = Predictions(np.arange(m), np.arange(m), label, logits.argmax(1), logits, classes, names)
    found = confusion_of(made)
    answered, offered = np.zeros((5, 5), dtype=int), np.zeros((5, 5), dtype=int)
    for n in range(m):
        true = classes[n, label[n]]
        answered[true, classes[n, logits[n].argmax()]] += 1
        for other in classes[n]:
            offered[true, other] += 1
    np.testing.assert_array_equal(found.answered, answered)
    np.testing.assert_array_equal(found.offered, offered)
    assert np.trace(found.answered) == made.correct.sum()
    share = {(names[i], names[j]): answered[i, j] / offered[i, j] for i in range(5) for j in range(5) if i != j}
    worst = found.worst(3)
    assert [value for *_, value, _ in worst] == pytest.approx(sorted(share.values(), reverse=True)[:3])
    for true, answer, value, count in worst:
        assert share[true, answer] == pytest.approx(value)
        assert offered[names.index(true), names.index(answer)] == count


def test_no_mistakes_are_no_list() -> None:
    classes = np.array([[0, 1]] * 4)
    label = np.array([0, 1, 0, 1])
    logits = np.eye(2, dtype=np.float32)[label]
    made = Predictions(np.arange(4), np.arange(4), label, label, logits, classes, ("a", "b"))
    assert confusion_of(made).worst(5) == []
    assert made.correct.all()
