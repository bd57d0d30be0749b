"""Temperature and threshold against a slow search, and what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.cache.errors import CacheError
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.statistics.temperature import Calibration, calibrate, fit_temperature, softmax


def loss(logits, labels, temperature):
    """Mean cross-entropy with Platt's targets, answer by answer."""
    m, way = logits.shape
    total = 0.0
    for row, label in zip(logits / temperature, labels, strict=True):
        logs = row - row.max() - np.log(np.exp(row - row.max()).sum())
        targets = [1 - 1 / (m + 2) if n == label else 1 / (m + 2) / (way - 1) for n in range(way)]
        total -= sum(t * log for t, log in zip(targets, logs, strict=True)) / m
    return total


def answers(seed, m=40, way=4, noise=1.0, scale=1.0):
    """(logits [m, way], labels [m]) of which more are right, the less noise there is."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, way, m)
    return scale * (np.eye(way)[labels] + noise * rng.standard_normal((m, way))), labels


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), noise=st.floats(0.1, 3), scale=st.floats(0.01, 100))
def test_no_other_temperature_has_a_smaller_loss(seed, noise, scale):
    logits, labels = answers(seed, noise=noise, scale=scale)
    found = fit_temperature(logits, labels)
    best = loss(logits, labels, found)
    for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2):
        assert best <= loss(logits, labels, found * factor) + 1e-5


def test_a_few_right_answers_give_no_certainty():
    logits, labels = answers(0, m=6, noise=0.0)
    found = calibrate(logits, labels, reject_rate=0.05, source="test")
    assert softmax(logits / found.temperature).max(axis=1) == pytest.approx(1 - 1 / 8, abs=1e-6)


@pytest.mark.parametrize(("logits", "labels"), [(np.zeros((3, 4)), [0, 1, 2]), (np.zeros((0, 4)), []), ([[2.0]], [0])])
def test_scores_that_say_nothing_leave_the_temperature_alone(logits, labels):
    assert fit_temperature(np.asarray(logits), np.asarray(labels, int)) == 1.0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), rate=st.floats(0, 0.9), way=st.integers(2, 5))
def test_the_threshold_rejects_at_most_the_share_that_is_allowed(seed, rate, way):
    logits, labels = answers(seed, way=way)
    found = calibrate(logits, labels, reject_rate=rate, source="test")
    sure = np.sort(logits.max(axis=1)[logits.argmax(axis=1) == labels])
    assert found.right == len(sure)
    assert found.false_rejects == sum(sure < found.threshold)
    assert found.false_rejects <= rate * len(sure)
    higher = sure[sure > found.threshold]
    assert not len(higher) or (sure < higher[0]).sum() > rate * len(sure)  # the highest that does


@pytest.mark.parametrize(("m", "rate"), [(3, 0.05), (9, 0.05), (30, 0.2)])
def test_the_expected_false_rejects_are_those_of_new_answers(m, rate):
    """Over many draws of answers that are all right: counted on others than those that set the threshold."""
    rng, counted = np.random.default_rng(0), []
    for _ in range(300):
        scores = 10 + np.eye(2)[0] * rng.standard_normal((m, 1)) - 10 * np.eye(2)[1]
        found = calibrate(scores, np.zeros(m, int), reject_rate=rate, source="test")
        counted.append((10 + rng.standard_normal(200) < found.threshold).mean())
    assert np.mean(counted) == pytest.approx(found.expected_false_rejects, abs=0.04)
    assert found.expected_false_rejects > found.false_rejects / found.right


def test_strangers_are_the_videos_without_their_own_class():
    logits, labels = answers(3)
    found = calibrate(logits, labels, reject_rate=0.05, source="test")
    accepted = sum(np.delete(row, n).max() >= found.threshold for row, n in zip(logits, labels, strict=True))
    assert (found.strangers, found.strangers_accepted) == (40, accepted)


def test_no_right_answer_rejects_everything():
    logits, labels = np.eye(3)[[0, 1, 2]], np.array([1, 2, 0])
    found = calibrate(logits, labels, reject_rate=0.05, source="test")
    assert (found.right, found.wrong_accepted, found.strangers_accepted) == (0, 0, 0)
    assert found.expected_false_rejects == 1


def test_json_and_back_and_what_is_refused():
    found = calibrate(*answers(1), reject_rate=0.1, source="test")
    assert Calibration.from_json(found.to_json()) == found
    for wrong in ({"temperature": 0.0}, {"temperature": -1.0}):
        with pytest.raises(FewShotError, match="temperature"):
            Calibration.from_json(found.to_json() | wrong)
    with pytest.raises(CacheError, match="answers"):
        Calibration.from_json(found.to_json() | {"answers": "many"})
    with pytest.raises(FewShotError, match=r"reject_rate \(1\)"):
        calibrate(*answers(1), reject_rate=1, source="test")
