"""What one head did, class by class, with intervals: numbers for bars and for the matrix of mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...fewshot.records import Predictions
from ...fewshot.statistics.confusion import Confusion, confusion_of
from ...fewshot.statistics.metrics import clustered_ci95
from .charts import BarChart, Matrix, bar_chart, matrix

MOST_BARS, MOST_MATRIX, MOST_PAIRS = 60, 40, 8
_MOST_CLASSES = 1000  # of which every pair is counted
_RESAMPLES = 1000  # of an interval; there are many, and the last digit of none is shown


@dataclass(frozen=True)
class Share:
    """A share of some queries, clustered 95 % interval and counts."""

    share: float
    low: float
    high: float
    queries: int
    videos: int

    @property
    def words(self) -> str:
        """`83.1 [70.2, 92.0] %, n = 254 queries of 12 videos`."""
        interval = f"[{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return f"{100 * self.share:.1f} {interval} %, n = {self.queries:,} queries of {self.videos:,} videos"


@dataclass(frozen=True, eq=False)
class Figures:
    """Of one row. classes: (name, share) from the worst to the best; bars: of the worst `MOST_BARS`; matrix: None where
    there are too many classes; taken: (true class, answer, share) of the most frequent mistakes."""

    classes: list[tuple[str, Share]]
    bars: BarChart
    matrix: Matrix | None
    offered: tuple[int, int]
    taken: list[tuple[str, str, Share]]


def figures_of(answers: Sequence[Predictions]) -> Figures:
    """answers: of one head, a seed of training each, on the same queries. Bars are of all seeds, mistakes of the
    first."""
    first = answers[0]
    right = np.mean([found.correct for found in answers], axis=0)  # [m], share of seeds that were right
    classes = [
        (first.class_names[number], _share(first, right, first.query_class == number))
        for number in np.unique(first.query_class).tolist()
    ]
    classes.sort(key=lambda pair: pair[1].share)
    shown = [(name, s.share, s.low, s.high, f"{name}: {s.words}") for name, s in classes[:MOST_BARS]]
    found = Figures(classes, bar_chart(shown), None, (0, 0), [])
    if len(first.class_names) > _MOST_CLASSES:
        return found
    confusion = confusion_of(first)
    offered = confusion.offered[~np.eye(len(confusion.class_names), dtype=bool) & (confusion.offered > 0)]
    return replace(
        found,
        matrix=_matrix(confusion) if len(confusion.class_names) <= MOST_MATRIX else None,
        offered=(int(offered.min()), int(offered.max())) if offered.size else (0, 0),
        taken=_taken(first, confusion),
    )


def _share(answers: Predictions, values: np.ndarray, chosen: np.ndarray) -> Share:
    """The mean of values [m] over the chosen queries, bool [m]."""
    values, videos, classes = values[chosen], answers.query_row[chosen], answers.query_class[chosen]  # [chosen] each
    low, high = clustered_ci95(values, videos, classes, resamples=_RESAMPLES)
    return Share(float(values.mean()), low, high, len(values), len(np.unique(videos)))


def _matrix(confusion: Confusion) -> Matrix:
    names, share = confusion.class_names, confusion.share
    words = [
        [
            f"{true} answered as {answer}: {confusion.answered[i, j]} of {confusion.offered[i, j]}"
            for j, answer in enumerate(names)
        ]
        for i, true in enumerate(names)
    ]
    return matrix(names, share.tolist(), words)


def _taken(answers: Predictions, confusion: Confusion) -> list[tuple[str, str, Share]]:
    answer = np.take_along_axis(answers.classes, answers.predicted[:, None], axis=1)[:, 0]  # [m]
    found = []
    for true, other, _, _ in confusion.worst(MOST_PAIRS):
        i, j = answers.class_names.index(true), answers.class_names.index(other)
        could = (answers.query_class == i) & (answers.classes == j).any(axis=1)  # [m]
        found.append((true, other, _share(answers, (answer == j).astype(float), could)))
    return found
