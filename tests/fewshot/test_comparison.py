"""A table of made-up answers: which pairs there are, and what is corrected over all of them."""

from pathlib import Path

import numpy as np
import pytest
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluation import Evaluation
from mastaf.fewshot.records import Predictions
from mastaf.fewshot.statistics.comparison import ComparedRow, compare_rows, compared_row
from mastaf.fewshot.statistics.significance import holm

EPISODES, WAY, CLASSES, VIDEOS = 400, 3, 6, 30


def scored(ease: float, *, seed: int, shot: int) -> Evaluation:
    asked, rng = np.random.default_rng(shot), np.random.default_rng(seed)
    classes = np.stack([asked.permutation(CLASSES)[:WAY] for _ in range(EPISODES)])  # [m, way]
    label = asked.integers(0, WAY, EPISODES)
    row = classes[np.arange(EPISODES), label] * VIDEOS + asked.integers(0, VIDEOS, EPISODES)
    predicted = np.where(rng.random(EPISODES) < ease, label, (label + 1) % WAY)
    logits = np.eye(WAY, dtype=np.float32)[predicted]
    made = Predictions(np.arange(EPISODES), row, label, predicted, logits, classes, tuple("abcdef"))
    return Evaluation({"shot": shot, "seed": seed, "accuracy": float(made.correct.mean())}, Path("r.json"), made, {})


def rows(names: dict[str, float], shots: tuple[int, ...] = (1, 5)) -> list[ComparedRow]:
    return [
        compared_row(name, [scored(ease, seed=10 * n + shot, shot=shot)])
        for shot in shots
        for n, (name, ease) in enumerate(names.items())
    ]


def test_pairs_are_of_one_shot_and_end_with_full() -> None:
    table = compare_rows(rows({"full": 0.8, "a": 0.7, "b": 0.5}))
    found = [(pair.first, pair.second, pair.shot) for pair in table.pairs]
    assert found == [(a, b, shot) for shot in (1, 5) for a, b in (("a", "full"), ("b", "full"), ("a", "b"))]
    for row in table.rows:
        difference = table.minus_base(row)
        full = next(other for other in table.rows if (other.name, other.shot) == ("full", row.shot))
        if row is full:
            assert difference is None
        else:
            assert difference is not None
            assert difference.mean == pytest.approx(row.accuracy - full.accuracy)


def test_p_is_corrected_over_the_whole_table() -> None:
    table = compare_rows(rows({"full": 0.7, "a": 0.66, "b": 0.62, "c": 0.7}))
    p = [pair.difference.p for pair in table.pairs]
    assert len(p) == 12
    assert [pair.difference.p_holm for pair in table.pairs] == holm(p)
    assert any(pair.difference.p_holm > pair.difference.p for pair in table.pairs)


def test_without_full_nothing_is_compared_with_it() -> None:
    table = compare_rows(rows({"a": 0.7, "b": 0.6}, shots=(1,)))
    assert [(pair.first, pair.second) for pair in table.pairs] == [("a", "b")]
    assert table.minus_base(table.rows[0]) is None


def test_one_row_has_no_pairs() -> None:
    assert compare_rows(rows({"a": 0.7}, shots=(1,))).pairs == []


def test_seeds_of_a_row_answer_the_same_queries() -> None:
    with pytest.raises(FewShotError, match="same episodes"):
        compared_row("a", [scored(0.5, seed=0, shot=1), scored(0.5, seed=0, shot=2)])
