"""Episodes: which videos they hold (`EpisodeRows`), and their cubes (`Episode`)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import FewShotError


@dataclass(frozen=True, eq=False)
class EpisodeRows:
    """Row numbers of `b` episodes, into the rows of one split.

    support: int64 [b, way, shot]; query: int64 [b, q]; labels: int64 [b, q], the way of each query;
    classes: int64 [b, way], position of each way's class among the split's sorted classes.
    """

    support: np.ndarray
    query: np.ndarray
    labels: np.ndarray
    classes: np.ndarray

    def __post_init__(self) -> None:
        b, way, _ = self.support.shape
        if self.query.shape != self.labels.shape or len(self.query) != b or self.classes.shape != (b, way):
            raise FewShotError(f"{self!r}: the first axes must agree, and query and labels must have one shape")

    def __len__(self) -> int:
        return len(self.support)

    def __repr__(self) -> str:
        shapes = f"support {self.support.shape}, query {self.query.shape}, labels {self.labels.shape}"
        return f"EpisodeRows({shapes}, classes {self.classes.shape})"

    def __getitem__(self, part: slice) -> "EpisodeRows":
        return EpisodeRows(self.support[part], self.query[part], self.labels[part], self.classes[part])


@dataclass(frozen=True, eq=False)
class Episode:
    """Cubes of `b` episodes.

    support: float [b, way, shot, c, t, h, w]; query: float [b, q, c, t, h, w]; labels: int64 [b, q], the way of
    each query (0 .. way-1); class_ids: int64 [b, way], 0 .. Z-1 over the sorted train classes, -1 for others.
    """

    support: Tensor
    query: Tensor
    labels: Tensor
    class_ids: Tensor

    def __post_init__(self) -> None:
        if self.support.dim() != 7 or self.query.dim() != 6:
            raise FewShotError(f"{self!r}: support must be [b, way, shot, c, t, h, w] and query [b, q, c, t, h, w]")
        b, way = self.support.shape[:2]
        if self.query.shape[0] != b or self.query.shape[2:] != self.support.shape[3:]:
            raise FewShotError(f"{self!r}: support and query must agree in b and in (c, t, h, w)")
        if self.labels.shape != self.query.shape[:2] or self.class_ids.shape != (b, way):
            raise FewShotError(f"{self!r}: labels must be [b, q] and class_ids [b, way]")

    def __repr__(self) -> str:
        shapes = f"support {tuple(self.support.shape)}, query {tuple(self.query.shape)}"
        return f"Episode({shapes}, labels {tuple(self.labels.shape)}, class_ids {tuple(self.class_ids.shape)})"

    @property
    def way(self) -> int:
        return self.support.shape[1]

    @property
    def shot(self) -> int:
        return self.support.shape[2]

    @property
    def cube_shape(self) -> tuple[int, int, int, int]:
        c, t, h, w = self.query.shape[2:]
        return c, t, h, w

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Episode":
        """The episode on another device, its cubes in another float type if one is named."""
        support, query = self.support.to(device, dtype), self.query.to(device, dtype)
        return Episode(support, query, self.labels.to(device), self.class_ids.to(device))
