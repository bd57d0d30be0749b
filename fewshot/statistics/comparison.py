"""Heads compared on the same episodes: each by itself, and each pair."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ..ablation_rows import FULL
from ..evaluation import Evaluation
from .metrics import clustered_ci95, episode_accuracy, mean_and_ci95
from .paired import Difference, paired_difference, require_same_queries
from .seed_spread import SeedSpread, seed_spread
from .significance import holm


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One head at one shot. scored: an evaluation for each seed of training, all on the same episodes.

    accuracy: mean over seeds; ci95, ci95_clustered: the sampling intervals of that mean, half-width over episodes and
    [low, high] by class and video; spread: of the accuracy between seeds, None for one seed, and where nothing
    is trained.
    """

    name: str
    scored: tuple[Evaluation, ...]
    accuracy: float
    ci95: float
    ci95_clustered: tuple[float, float]
    spread: SeedSpread | None

    @property
    def record(self) -> dict[str, Any]:
        """The record of the first seed: what all seeds share is to be read from it."""
        return self.scored[0].record

    @property
    def records(self) -> list[dict[str, Any]]:
        """One record a seed."""
        return [found.record for found in self.scored]

    @property
    def paths(self) -> list[Path]:
        """One record file a seed."""
        return [found.path for found in self.scored]

    @property
    def shot(self) -> int:
        return self.record["shot"]


@dataclass(frozen=True)
class ComparedPair:
    """first minus second at one shot."""

    first: str
    second: str
    shot: int
    difference: Difference


@dataclass(frozen=True)
class NotRun:
    """A row that could not be had at one shot, and why. failed: it could have been had, but failed at its work."""

    name: str
    shot: int
    reason: str
    failed: bool = False


@dataclass(frozen=True, eq=False)
class Comparison:
    """A table: its rows, and pairs of rows of one shot, Holm-corrected over all pairs of the table.

    base: the row that the others are shown against; not_run: rows that could not be had, with the reason.
    """

    rows: list[ComparedRow]
    pairs: list[ComparedPair]
    base: str = FULL
    not_run: tuple[NotRun, ...] = ()

    def minus_base(self, row: ComparedRow) -> Difference | None:
        """The difference of a row to the base, None for the base itself and in a table without it."""
        found = [p.difference for p in self.pairs if (p.first, p.second, p.shot) == (row.name, self.base, row.shot)]
        return found[0] if found else None


def compared_row(name: str, scored: Sequence[Evaluation], *, trained: bool = True) -> ComparedRow:
    """A row from its evaluations, one a seed; trained: whether a seed can make a difference.

    Raises FewShotError unless all are of the same episodes.
    """
    answers = [found.predictions for found in scored]
    require_same_queries(answers)
    one = answers[0]
    right = one.by_episode(np.mean([p.correct for p in answers], axis=0))  # [e, q], share of seeds that were right
    accuracy, half = mean_and_ci95(episode_accuracy(right))
    return ComparedRow(
        name=name,
        scored=tuple(scored),
        accuracy=accuracy,
        ci95=half,
        ci95_clustered=clustered_ci95(right, one.by_episode(one.query_row), one.by_episode(one.query_class)),
        spread=seed_spread([found.record["accuracy"] for found in scored]) if trained and len(scored) > 1 else None,
    )


def compare_rows(
    rows: Sequence[ComparedRow], *, base: str = FULL, every_pair: bool = True, not_run: Sequence[NotRun] = ()
) -> Comparison:
    """Compare rows that share a shot: every pair, or each with the base alone.

    Raises FewShotError unless their episodes are the same.
    """
    pairs = [
        ComparedPair(a.name, b.name, a.shot, paired_difference(*map(_answers, (a, b))))
        for a, b in _pairs(rows, base)
        if every_pair or b.name == base
    ]
    corrected = holm([pair.difference.p for pair in pairs])
    return Comparison(
        list(rows),
        [
            ComparedPair(pair.first, pair.second, pair.shot, pair.difference.corrected(p))
            for pair, p in zip(pairs, corrected, strict=True)
        ],
        base,
        tuple(not_run),
    )


def _answers(row: ComparedRow) -> list[Any]:
    return [found.predictions for found in row.scored]


def _pairs(rows: Sequence[ComparedRow], base: str) -> Iterator[tuple[ComparedRow, ComparedRow]]:
    """Pairs of one shot, the base last in its pairs, so that each reads `row minus base`."""
    for shot in dict.fromkeys(row.shot for row in rows):
        for first, second in combinations([row for row in rows if row.shot == shot], 2):
            yield (second, first) if first.name == base else (first, second)
