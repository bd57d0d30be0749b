"""MASTAF's pooled scores of a whole list of episodes, without relation maps.

A video is in many episodes of a list. What a pair of a class P and a query Q, cubes [c, L], needs of a map P^T Q is
products of one cube with vectors [c] alone, which carry what is to be known of the other:

    mean over class positions   (1/L) pbar^T Q          pbar = the sum of P's positions (of unit length, for cosines)
    class side, kernel d        P^T u                   u = Q d
    query side, kernel e        Q^T v                   v = P e
    pooled cosine               (P wp) . (Q wq)

Each is linear in P, the mean of its shots' cubes, except for the norms of its positions, and those follow from inner
products of pairs of shots (`ShotSquares`). So cubes are read video by video, each against the vectors of all its pairs
at once (`SummedCubes`). With one shot an episode costs 8 L c multiplications a pair instead of L^2 c.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..bank import FeatureBank
from ..episode import EpisodeRows
from ..relation import inverse_norm, wide
from ..side_by_side import SideBySide
from .pair_groups import group_pairs
from .shot_squares import ShotSquares
from .summed_cubes import SummedCubes

if TYPE_CHECKING:
    from .mastaf import MASTAF

_ROWS, _MOST = 16, 64  # videos that a thread reads at once, and pairs of each
_SETS = 512  # pairs of classes of several shots that a thread works on at once
_PAIR_BYTES, _SET_BYTES = 160 * 2**20, 64 * 2**20  # vectors of pairs that are worked on at once; with several shots
_VIDEO_BYTES = 128 * 2**20  # vectors of all videos
_SHOT_BYTES = 64 * 2**20  # inner products of shots


def can_score_list(method: "MASTAF", bank: FeatureBank, rows: EpisodeRows) -> bool:
    """Whether `score_list` gives this head's scores: pooled cosines, cubes and vectors in memory; and where classes
    have several shots, those of one class, and so many of them that a table of all videos pays."""
    c, *sizes = bank.store.spec.cube_shape
    fits = bank.residence.kind in ("gpu", "ram") and 3 * 4 * c * len(bank) <= _VIDEO_BYTES
    if not fits or method.profile.test_metric != "pool":
        return False
    if rows.support.shape[2] == 1:
        return True
    classes = class_numbers(bank)
    small = ShotSquares.nbytes(classes, int(np.prod(sizes))) <= _SHOT_BYTES
    shots = classes[rows.support]  # [e, way, shot]
    return small and rows.support.size >= len(bank) and bool((shots == shots[..., :1]).all())


def class_numbers(bank: FeatureBank) -> np.ndarray:
    """The number of each usable video's class, int64 [n]."""
    return np.unique(bank.classes, return_inverse=True)[1]


def score_list(method: "MASTAF", bank: FeatureBank, rows: EpisodeRows, advance: Callable[[int], None] | None) -> Tensor:
    """Logits [e, q, way] of a method in evaluation mode, those of `score_maps` up to rounding."""
    # Episodes of one query side by side: a block of them then has few query videos, each with many pairs.
    order = np.argsort(rows.query[:, 0], kind="stable")
    logits = torch.empty(*rows.labels.shape, rows.support.shape[1], device=bank.device)
    with SideBySide(bank.device) as workers:
        scorer = _ListScorer(method, bank, workers, rows)
        for start in range(0, len(rows), scorer.block):
            part = order[start : start + scorer.block]
            logits[torch.from_numpy(part).to(bank.device)] = scorer.score(rows.support[part], rows.query[part])
            if advance is not None:
                advance(len(part))
    return logits


class _ListScorer:
    """Vectors of every video of a bank, and the scores of pairs from them.

    vectors: [r, c]: first the sum of each video's positions, then, with several shots, that of each class's, then what
    a pair's one side says to the other.
    """

    def __init__(self, method: "MASTAF", bank: FeatureBank, workers: SideBySide, rows: EpisodeRows) -> None:
        (_, self.way, self.shot), self.q, n = rows.support.shape, rows.query.shape[1], len(bank)
        self.method, self.bank, self.workers = method, bank, workers
        self.c, *sizes = bank.store.spec.cube_shape
        self.size, device = int(np.prod(sizes)), bank.device
        self.dtype, profile = bank.product_dtype, method.profile
        pairs, sets = self.way * self.q, 0 if self.shot == 1 else self.way  # of an episode
        room = _SET_BYTES if sets else _PAIR_BYTES
        self.block = max(1, min(len(rows), room // (self.dtype.itemsize * self.c * (2 * pairs + sets))))
        self.vectors = torch.empty(n + self.block * (pairs + sets), self.c, dtype=self.dtype, device=device)
        self.pooled = torch.empty(self.block * pairs, self.c, dtype=self.dtype, device=device)
        self.inverse = torch.ones(n + self.block * sets, self.size, device=device)  # of positions' norms, for cosines
        self.carried = n + self.block * sets  # where pairs begin
        self.several = self.way > 1  # whether there are ways to normalise over
        self.normalise = profile.query_self_norm == "authors" and self.q > 1, self.several  # own maps: query, class
        self.has_own = method.variant != "cross" and (method.variant != "full" or profile.alpha > 0)
        # Unit vectors of videos as query and, where a class is one, as class.
        self.own = [torch.empty(n, self.c, device=device) for _ in range(2 if self.shot == 1 else 1) if self.has_own]
        self.classes = class_numbers(bank)
        self.shots = ShotSquares(bank, self.classes, workers) if sets and profile.normalize_maps else None
        workers.run(self._learn_videos, np.array_split(np.arange(n), -(-n // _ROWS)))

    def score(self, support: np.ndarray, query: np.ndarray) -> Tensor:
        """Logits [e, q, way] of a block of episodes; support [e, way, shot], query [e, q]."""
        block = _Block(support, query, len(self.bank))
        classes, queries = self._pieces(block.sets), self._pieces(block.asked)
        shape, device = (len(support), self.way, self.q), self.bank.device
        own, crossed = torch.empty(2, block.set_pairs.size, device=device)  # cosines of pairs
        if self.has_own or self.shot > 1:
            self.workers.run(lambda part: self._own_cosines(block, part, own), classes)
        if self.method.variant in ("self", "neighbor"):
            return self.method.fuse(own.view(shape).transpose(1, 2), None)
        self.workers.run(lambda part: self._ask_queries(block, part), queries)
        self.workers.run(lambda part: self._ask_classes(block, part), classes)
        self.workers.run(lambda part: self._cross_cosines(block, part, crossed), queries)
        second = own.view(shape).transpose(1, 2) if self.has_own else None
        return self.method.fuse(crossed.view(shape).transpose(1, 2), second)

    def _pieces(self, sets: np.ndarray) -> list[np.ndarray]:
        """Numbers of sets int64 [m, shot] in pieces that read few cubes each."""
        if sets.shape[1] == 1:
            groups = group_pairs(sets[:, 0], rows=_ROWS, most=_MOST)
            return [members[members < len(sets)] for _, members in groups]
        classes = self.classes[sets[:, 0]]
        order = np.argsort(classes, kind="stable")
        ends = np.flatnonzero(np.diff(classes[order])) + 1
        return [part for one in np.split(order, ends) for part in np.array_split(one, -(-len(one) * self.q // _SETS))]

    def _learn_videos(self, videos: np.ndarray) -> None:
        """Fill what is known of each of videos int64 [v]."""
        cubes = SummedCubes(self.bank, videos[:, None], self.workers.buffers)
        if self.method.profile.normalize_maps:
            self.inverse[self._tensor(videos)] = inverse_norm(cubes.squares())
        for own, vectors in zip(self.own, self._learn(cubes, videos, self.normalise[: len(self.own)]), strict=True):
            own[self._tensor(videos)] = vectors

    def _learn(self, cubes: SummedCubes, rows: np.ndarray, normalise: Sequence[bool]) -> list[Tensor]:
        """Fill `vectors` of sets, whose rows are int64 [m]; their own unit vectors [m, c] for each of `normalise`."""
        inverse = self.inverse[self._tensor(rows)].unsqueeze(1)  # [m, 1, L]
        self.vectors[self._tensor(rows)] = cubes.sum(inverse).squeeze(1)
        if not self.has_own:
            return []
        if self.method.variant == "neighbor":
            return [_unit(wide(cubes.sum(torch.ones_like(inverse)))).squeeze(1)] * len(normalise)
        mean = cubes.along(self.vectors, rows[:, None]) * inverse / self.size  # [m, 1, L]
        found, each = [], np.arange(len(rows))[:, None]
        for several in normalise:
            source = cubes.sum(self._kernel(mean, several) * inverse).squeeze(1)  # [m, c]
            weights = self._weights(cubes.along(source, each) * inverse)  # [m, 1, L]
            found.append(_unit(wide(cubes.sum(weights))).squeeze(1))
        return found

    def _own_cosines(self, block: "_Block", part: np.ndarray, found: Tensor) -> None:
        """Cosines of classes and queries that attend to themselves (of both as they are, in `neighbor`)."""
        if self.shot == 1:
            of_class = self.own[1][self._tensor(block.sets[part, 0])]  # [m, c]
        else:
            cubes, rows = self._classes(block, part), block.set_rows[part]
            if self.shots is not None:
                self.inverse[self._tensor(rows)] = inverse_norm(self.shots.of(block.sets[part]))
            vectors = self._learn(cubes, rows, self.normalise[1:])
            if not vectors:
                return
            of_class = vectors[0]
        of_query = self.own[0][self._tensor(block.set_queries[part])]  # [m, q, c]
        found[self._tensor(block.set_pairs[part])] = (of_query @ of_class.unsqueeze(-1)).squeeze(-1)

    def _ask_queries(self, block: "_Block", part: np.ndarray) -> None:
        """u of all pairs of some queries."""
        cubes, inverse = self._queries(block, part)
        mean = cubes.along(self.vectors, block.query_sets[part]) * inverse / self.size  # [m, way, L]
        source = cubes.sum(self._kernel(mean, self.several) * inverse)  # [m, way, c]
        self.vectors[self._tensor(self.carried + block.query_pairs[part])] = source

    def _ask_classes(self, block: "_Block", part: np.ndarray) -> None:
        """From u to v, and the pooled vectors of some classes."""
        cubes, pairs = self._classes(block, part), block.set_pairs[part]
        inverse = self.inverse[self._tensor(block.set_rows[part])].unsqueeze(1)  # [m, 1, L]
        wanted = np.concatenate([block.set_queries[part], self.carried + pairs], 1)
        along = cubes.along(self.vectors, wanted) * inverse  # [m, 2q, L]
        kernel = self._kernel(along[:, : self.q] / self.size, self.several)
        sums = cubes.sum(torch.cat([kernel * inverse, self._weights(along[:, self.q :])], 1))  # [m, 2q, c]
        self.vectors[self._tensor(self.carried + pairs)] = sums[:, : self.q]
        self.pooled[self._tensor(pairs)] = sums[:, self.q :]

    def _cross_cosines(self, block: "_Block", part: np.ndarray, found: Tensor) -> None:
        """Cosines of some queries and classes that attend to each other."""
        (cubes, inverse), pairs = self._queries(block, part), block.query_pairs[part]
        weights = self._weights(cubes.along(self.vectors, self.carried + pairs) * inverse)  # [m, way, L]
        mine, others = wide(cubes.sum(weights)), wide(self.pooled[self._tensor(pairs)])  # [m, way, c]
        lengths = inverse_norm(_squares(mine)) * inverse_norm(_squares(others))  # [m, way, 1]
        found[self._tensor(pairs)] = (mine * others).sum(-1) * lengths.squeeze(-1)

    def _classes(self, block: "_Block", part: np.ndarray) -> SummedCubes:
        """Mean cubes of some classes."""
        return SummedCubes(self.bank, block.sets[part], self.workers.buffers)

    def _queries(self, block: "_Block", part: np.ndarray) -> tuple[SummedCubes, Tensor]:
        """Cubes and inverse norms [m, 1, L] of some queries."""
        videos = block.asked[part]
        cubes = SummedCubes(self.bank, videos, self.workers.buffers)
        return cubes, self.inverse[self._tensor(videos[:, 0])].unsqueeze(1)

    def _kernel(self, mean: Tensor, normalise: bool) -> Tensor:
        """The meta-learner's kernel [m, k, L] of averaged maps [m, k, L]; all ones where there is none."""
        meta = self.method.meta
        return torch.ones_like(mean) if meta is None else meta(mean, normalise=normalise, record=None)

    def _weights(self, fused: Tensor) -> Tensor:
        """Weights of positions, [m, k, L], from what the kernel makes of a map."""
        if self.method.meta is None or self.method.profile.reduce == "mean":
            fused = fused / self.size
        return self.method.weigh(torch.softmax(fused / self.method.profile.tau, dim=-1))

    def _tensor(self, numbers: np.ndarray) -> Tensor:
        return torch.from_numpy(numbers).to(self.bank.device)


class _Block:
    """Numbers of a block's `e` episodes, all int64. A pair's number counts queries first, then ways, then episodes.

    sets: [e*way, shot], videos of each class; asked: [e*q, 1], of each query; set_pairs: [e*way, q] and query_pairs:
    [e*q, way], their pairs; set_queries: [e*way, q], query videos that a class meets; set_rows: [e*way], where what is
    known of a class is: at its one video, or beyond all `n` videos; query_sets: [e*q, way], where that of each class is
    that a query meets.
    """

    def __init__(self, support: np.ndarray, query: np.ndarray, n: int) -> None:
        (e, way, shot), q = support.shape, query.shape[1]
        pairs = np.arange(e * way * q).reshape(e, way, q)
        self.sets, self.asked = support.reshape(e * way, shot), query.reshape(e * q, 1)
        self.set_pairs = pairs.reshape(e * way, q)
        self.query_pairs = pairs.transpose(0, 2, 1).reshape(e * q, way)
        self.set_queries = np.repeat(query, way, axis=0)
        self.set_rows = self.sets[:, 0] if shot == 1 else n + np.arange(e * way)
        self.query_sets = np.repeat(self.set_rows.reshape(e, way), q, axis=0)


def _unit(vectors: Tensor) -> Tensor:
    """Vectors [..., c] of length 1; those of no length stay."""
    return vectors * inverse_norm(_squares(vectors))


def _squares(vectors: Tensor) -> Tensor:
    """Squared norms [..., 1] of vectors [..., c], in one pass."""
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True, dtype=torch.float32).square()
