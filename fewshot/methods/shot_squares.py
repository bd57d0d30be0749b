"""Squared norms of the positions of mean cubes, from inner products of their videos."""

from itertools import combinations_with_replacement

import numpy as np
import torch

from ..bags import sum_rows
from ..bank import FeatureBank
from ..side_by_side import SideBySide

_TILE = 80  # videos whose inner products with as many others are computed at once
_POSITIONS = 8  # of a product


class ShotSquares:
    """Inner products [L] of each two videos of one class, position by position: a set's norms are sums of them.

    |mean of x_k|^2 at a position is the mean of x_k . x_j there, over all k and j. classes: int64 [n], of each video.
    """

    def __init__(self, bank: FeatureBank, classes: np.ndarray, workers: SideBySide) -> None:
        self._bank, self._workers = bank, workers
        counts = np.bincount(classes)
        self._count = counts[classes]  # [n], videos of a video's class
        order = np.argsort(classes, kind="stable")
        self._within = np.empty_like(order)  # [n], a video's number in its class
        self._within[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        self._base = np.concatenate([[0], np.cumsum(counts**2)])[classes]  # [n], first row of a video's class
        self.size = int(np.prod(bank.store.spec.cube_shape[1:]))
        self._table = torch.empty(int((counts**2).sum()), self.size, device=bank.device)  # [pairs, L]
        tiles = []
        for number in np.flatnonzero(counts).tolist():
            videos = np.flatnonzero(classes == number)
            parts = [videos[start : start + _TILE] for start in range(0, len(videos), _TILE)]
            tiles += combinations_with_replacement(parts, 2)
        workers.run(self._fill, tiles)

    @staticmethod
    def nbytes(classes: np.ndarray, size: int) -> int:
        """Of the inner products of cubes with `size` positions."""
        return 4 * size * int((np.bincount(classes) ** 2).sum())

    def of(self, sets: np.ndarray) -> torch.Tensor:
        """Float32 [m, L] of the mean cubes of sets int64 [m, shot], each of one class."""
        m, shot = sets.shape
        rows = self._rows(sets[:, :, None], sets[:, None, :]).reshape(m, shot**2)
        return sum_rows(self._table, torch.from_numpy(rows).to(self._table.device)) / shot**2

    def _rows(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Rows of the table for videos one and other, of one class."""
        return self._base[one] + self._within[one] * self._count[one] + self._within[other]

    def _fill(self, tile: tuple[np.ndarray, np.ndarray]) -> None:
        """The inner products of each of some videos with each of others, both ways."""
        one, other = tile
        videos, bank = one if other is one else np.concatenate([one, other]), self._bank
        shape = (len(videos), self.size, bank.store.spec.cube_shape[0])
        # As the bank has them: a cube is read once, and widened a few positions at a time.
        cubes = bank.gather(videos, np.zeros_like(videos), torch.empty(shape, dtype=bank.dtype, device=bank.device))
        found = torch.empty(len(one), len(other), self.size, device=bank.device)
        for start in range(0, self.size, _POSITIONS):
            part = cubes[:, start : start + _POSITIONS].transpose(0, 1).to(bank.product_dtype)  # [p, videos, c]
            products = part[:, : len(one)] @ part[:, -len(other) :].transpose(1, 2)  # [p, one, other]
            found[..., start : start + _POSITIONS] = products.permute(1, 2, 0)
        for rows, products in (
            (self._rows(one[:, None], other), found),
            (self._rows(other[:, None], one), found.transpose(0, 1)),
        ):
            self._table.index_copy_(0, torch.from_numpy(rows.ravel()).to(bank.device), products.flatten(0, 1))
