"""Which classes a head takes for which."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..records import Predictions


@dataclass(frozen=True, eq=False)
class Confusion:
    """Counts over the queries of a list; rows are true classes, columns answers, both in the order of class_names.

    answered: int64 [classes, classes]; offered: int64 [classes, classes], queries of the row's class in whose
    episode the column's class was a way. An episode offers few of the classes, so a share is answered / offered.
    """

    class_names: tuple[str, ...]
    answered: np.ndarray
    offered: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """float64 [classes, classes]: of the queries of a class that were offered another, those answered so; NaN
        where it never was."""
        return np.where(self.offered > 0, self.answered / np.maximum(self.offered, 1), np.nan)

    def worst(self, count: int) -> list[tuple[str, str, float, int]]:
        """The most frequent mistakes: (true class, answer, share, queries offered it), the largest share first."""
        share = np.nan_to_num(self.share, nan=0.0)  # [classes, classes]
        np.fill_diagonal(share, 0.0)
        order = np.argsort(-share, axis=None, kind="stable")[:count]
        pairs = [divmod(int(place), len(share)) for place in order if share.flat[place] > 0]
        return [(self.class_names[i], self.class_names[j], share[i, j], int(self.offered[i, j])) for i, j in pairs]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = {"answered": self.answered.tolist(), "offered": self.offered.tolist()}
        return {"class_names": list(self.class_names), **counts}


def confusion_of(predictions: Predictions) -> Confusion:
    """Count a list's answers by class."""
    n = len(predictions.class_names)
    true = predictions.query_class  # [m]
    answer = np.take_along_axis(predictions.classes, predictions.predicted[:, None], axis=1)[:, 0]  # [m]
    answered = np.bincount(true * n + answer, minlength=n * n).reshape(n, n)
    offered = np.bincount((true[:, None] * n + predictions.classes).ravel(), minlength=n * n).reshape(n, n)
    return Confusion(predictions.class_names, answered, offered)
