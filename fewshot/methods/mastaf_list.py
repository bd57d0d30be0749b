"""MASTAF's pooled scores of a whole list of one-shot episodes, without relation maps.

With one shot a class is a video, and a video is in many episodes of a list. What a pair of cubes P, Q [c, L] needs of a
map P^T Q is products of one cube with vectors [c] alone, which carry what is to be known of the other:

    mean over class positions   (1/L) pbar^T Q          pbar = the sum of P's positions (of unit length, for cosines)
    class side, kernel d        P^T u                   u = Q d
    query side, kernel e        Q^T v                   v = P e
    pooled cosine               (P wp) . (Q wq)

So cubes are read video by video, each against the vectors of all its pairs at once: twice as query, once as class. An
episode costs 8 L c multiplications a pair instead of L^2 c, and no gathering of cubes. Groups of videos are worked on
side by side, each by one thread. For several shots see docs/benchmarks.md: it pays too little.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..buffers import Buffers
from ..cubes.bank import FeatureBank
from ..episodes.episode import EpisodeRows
from ..relation import inverse_norm, wide
from ..side_by_side import SideBySide
from .pair_groups import group_pairs

if TYPE_CHECKING:
    from .mastaf import MASTAF

_ROWS, _MOST = 16, 64  # videos that are read at once, and pairs of each
_PAIR_BYTES = 160 * 2**20  # vectors of the pairs that are worked on at once
_VIDEO_BYTES = 128 * 2**20  # vectors of all videos
_SHARE = 0.3  # episodes a video from which on a list is faster than relation maps


def can_score_list(method: "MASTAF", bank: FeatureBank, rows: EpisodeRows) -> bool:
    """Whether `score_list` gives this head's scores, and pays: one shot, pooled cosines, cubes and vectors in memory,
    and enough episodes to learn all videos for. It depends on no other heads: alone and beside them, scores are equal.
    """
    c = bank.store.spec.cube_shape[0]
    fits = bank.residence.kind in ("gpu", "ram") and 3 * 4 * c * len(bank) <= _VIDEO_BYTES
    pays = rows.support.shape[2] == 1 and len(rows) >= _SHARE * len(bank)
    return fits and pays and method.profile.test_metric == "pool"


def score_list(method: "MASTAF", bank: FeatureBank, rows: EpisodeRows, advance: Callable[[int], None] | None) -> Tensor:
    """Logits [e, q, way] of a method in evaluation mode, those of `score_maps` up to rounding."""
    # Episodes of one query side by side: a block of them then has few query videos, each with many pairs.
    order = np.argsort(rows.query[:, 0], kind="stable")
    logits = torch.empty(*rows.labels.shape, rows.support.shape[1], device=bank.device)
    with SideBySide(bank.device) as workers:
        scorer = _ListScorer(method, bank, workers, way=rows.support.shape[1], q=rows.query.shape[1])
        for start in range(0, len(rows), scorer.block):
            part = order[start : start + scorer.block]
            chosen = EpisodeRows(rows.support[part], rows.query[part], rows.labels[part], rows.classes[part])
            logits[torch.from_numpy(part).to(bank.device)] = scorer.score(chosen)
            if advance is not None:
                advance(len(part))
    return logits


Group = tuple[np.ndarray, np.ndarray]  # videos [v] and their pairs, members [v, n]


class _ListScorer:
    """Vectors of every video of a bank, and the scores of pairs from them."""

    def __init__(self, method: "MASTAF", bank: FeatureBank, workers: SideBySide, *, way: int, q: int) -> None:
        bank.load()
        self.method, self.bank, self.workers, self._buffers = method, bank, workers, Buffers()
        self.c, *sizes = bank.store.spec.cube_shape
        self.size, self.several = int(np.prod(sizes)), way > 1
        self.dtype = bank.product_dtype
        self.block = max(1, _PAIR_BYTES // (2 * self.dtype.itemsize * self.c * way * q))
        profile, n = method.profile, len(bank)
        self.inverse = torch.ones(n, self.size, device=bank.device)  # [n, L], of positions' norms, for cosines
        self.total = torch.empty(n, self.c, dtype=self.dtype, device=bank.device)  # [n, c], the sum of positions
        asked = profile.query_self_norm == "authors" and q > 1
        self.own: tuple[Tensor, Tensor] | None = None  # unit vectors [n, c] of videos as class and as query
        if method.variant != "cross" and (method.variant != "full" or profile.alpha > 0):
            one = torch.empty_like(self.total, dtype=torch.float32)
            self.own = (one, one if method.variant == "neighbor" else torch.empty_like(one))
        pieces = np.array_split(np.arange(n), -(-n // _ROWS))
        workers.run(lambda videos: self._learn_videos(videos, asked), pieces)

    def score(self, rows: EpisodeRows) -> Tensor:
        """Logits [e, q, way]."""
        (e, way, _), q = rows.support.shape, rows.query.shape[1]
        classes = np.repeat(rows.support[:, None, :, 0], q, axis=1).ravel()  # [e*q*way]
        queries = np.repeat(rows.query, way, axis=1).ravel()  # [e*q*way]
        shape, method = (e, q, way), self.method
        own = None if self.own is None else self._own_cosines(classes, queries).view(shape)
        if method.variant in ("self", "neighbor"):
            return method.fuse(own, None)
        return method.fuse(self._cross_cosines(classes, queries).view(shape), own)

    def _learn_videos(self, videos: np.ndarray, asked: bool) -> None:
        """Fill what is known of each of videos int64 [v]; asked: whether a query's own map is normalised."""
        cubes, profile = self._cubes(videos), self.method.profile  # [v, L, c]
        part = slice(int(videos[0]), int(videos[-1]) + 1)
        if profile.normalize_maps:
            self.inverse[part] = inverse_norm(_squares(cubes)).squeeze(-1)
        inverse = self.inverse[part].unsqueeze(1)  # [v, 1, L]
        total = self._sum(inverse, cubes)  # [v, 1, c]
        self.total[part] = total.squeeze(1)
        if self.own is None:
            return
        if self.method.variant == "neighbor":
            self.own[0][part] = _unit(wide(self._sum(torch.ones_like(inverse), cubes))).squeeze(1)
            return
        mean = self._along(total, cubes) * inverse / self.size  # [v, 1, L]
        for vectors, normalise in zip(self.own, (self.several, asked), strict=True):
            kernel = self._kernel(mean, normalise)
            source = self._sum(kernel * inverse, cubes)  # [v, 1, c]
            weights = self._weights(self._along(source, cubes) * inverse)  # [v, 1, L]
            vectors[part] = _unit(wide(self._sum(weights, cubes))).squeeze(1)

    def _own_cosines(self, classes: np.ndarray, queries: np.ndarray) -> Tensor:
        """Cosines of self-attended videos (of videos as they are, in `neighbor`), [pairs]."""
        of_class, of_query = self.own or (self.total, self.total)
        found = torch.empty(len(classes), device=self.bank.device)
        padded = np.append(classes, 0)

        def score(group: Group) -> None:
            videos, members = group
            others = self._of(of_class, padded[members])  # [v, n, c]
            mine = self._of(of_query, videos).unsqueeze(-1)  # [v, c, 1]
            self._put(found, members, (others @ mine).squeeze(-1))

        self.workers.run(score, group_pairs(queries, rows=_ROWS, most=_MOST))
        return found

    def _cross_cosines(self, classes: np.ndarray, queries: np.ndarray) -> Tensor:
        """Cosines of cross-attended pairs, [pairs]."""
        pairs, device = len(classes), self.bank.device
        # One more row than pairs: padding is written there, and read from there.
        carried = self._buffers.take("carried", (pairs + 1, self.c), self.dtype, device)
        pooled = self._buffers.take("pooled", (pairs + 1, self.c), self.dtype, device)
        carried[pairs], pooled[pairs] = 0, 0
        found = torch.empty(pairs, device=device)
        by_query = list(group_pairs(queries, rows=_ROWS, most=_MOST))
        self.workers.run(lambda group: self._ask(*group, np.append(classes, 0), carried), by_query)
        by_class = group_pairs(classes, rows=_ROWS, most=_MOST)
        self.workers.run(lambda group: self._class_side(*group, np.append(queries, 0), carried, pooled), by_class)
        self.workers.run(lambda group: self._meet(*group, carried, pooled, found), by_query)
        return found

    def _ask(self, videos: np.ndarray, members: np.ndarray, classes: np.ndarray, carried: Tensor) -> None:
        """u of the pairs [v, n] of some queries, into `carried`; classes: int64 [pairs + 1]."""
        cubes, inverse = self._cubes(videos), self._of(self.inverse, videos).unsqueeze(1)  # [v, L, c], [v, 1, L]
        others = self._of(self.total, classes[members])  # [v, n, c]
        kernel = self._kernel(self._along(others, cubes) * inverse / self.size, self.several)
        self._keep(carried, members, self._sum(kernel * inverse, cubes))

    def _meet(self, videos: np.ndarray, members: np.ndarray, carried: Tensor, pooled: Tensor, found: Tensor) -> None:
        """From v in `carried` and the classes' pooled vectors to the cosines of the pairs [v, n] of some queries."""
        cubes, inverse = self._cubes(videos), self._of(self.inverse, videos).unsqueeze(1)  # [v, L, c], [v, 1, L]
        weights = self._weights(self._along(self._of(carried, members), cubes) * inverse)  # [v, n, L]
        mine, others = wide(self._sum(weights, cubes)), wide(self._of(pooled, members))  # [v, n, c]
        lengths = inverse_norm(_squares(mine)) * inverse_norm(_squares(others))  # [v, n, 1]
        self._put(found, members, (mine * others).sum(-1) * lengths.squeeze(-1))

    def _class_side(
        self, videos: np.ndarray, members: np.ndarray, queries: np.ndarray, carried: Tensor, pooled: Tensor
    ) -> None:
        """From u in `carried` to v there, and the pooled vectors of the pairs [v, n] of some classes."""
        cubes, inverse = self._cubes(videos), self._of(self.inverse, videos).unsqueeze(1)  # [v, L, c], [v, 1, L]
        totals = self._of(self.total, queries[members])  # [v, n, c]
        n = members.shape[1]
        along = self._along(torch.cat([totals, self._of(carried, members)], 1), cubes) * inverse  # [v, 2n, L]
        kernel = self._kernel(along[:, :n] / self.size, self.several)
        sums = self._sum(torch.cat([kernel * inverse, self._weights(along[:, n:])], 1), cubes)  # [v, 2n, c]
        self._keep(carried, members, sums[:, :n])
        self._keep(pooled, members, sums[:, n:])

    def _cubes(self, videos: np.ndarray) -> Tensor:
        shape = (len(videos), self.size, self.c)
        out = self.workers.buffers.take("cubes", shape, self.dtype, self.bank.device)
        return self.bank.gather(videos, np.zeros_like(videos), out)

    def _kernel(self, mean: Tensor, normalise: bool) -> Tensor:
        """The meta-learner's kernel [v, n, L] of averaged maps [v, n, L]; all ones where there is none."""
        meta = self.method.meta
        return torch.ones_like(mean) if meta is None else meta(mean, normalise=normalise, record=None)

    def _weights(self, fused: Tensor) -> Tensor:
        """Weights of positions, [v, n, L], from what the kernel makes of a map."""
        if self.method.meta is None or self.method.profile.reduce == "mean":
            fused = fused / self.size
        return self.method.weigh(torch.softmax(fused / self.method.profile.tau, dim=-1))

    def _along(self, vectors: Tensor, cubes: Tensor) -> Tensor:
        """Inner products [v, n, L] of vectors [v, n, c] with the positions of cubes [v, L, c]."""
        # In this order the larger matrix comes first, and few vectors cost half as much.
        return wide(cubes @ vectors.transpose(1, 2)).transpose(1, 2).contiguous()

    def _sum(self, weights: Tensor, cubes: Tensor) -> Tensor:
        """Sums [v, n, c] of the positions of cubes [v, L, c], weights [v, n, L]."""
        return weights.to(self.dtype) @ cubes

    def _of(self, values: Tensor, videos: np.ndarray) -> Tensor:
        """Rows of values [n, ...] for videos of any shape."""
        wanted = torch.from_numpy(videos.ravel()).to(self.bank.device)
        return values.index_select(0, wanted).view(*videos.shape, *values.shape[1:])

    def _keep(self, values: Tensor, members: np.ndarray, found: Tensor) -> None:
        """Write found [v, n, c] of pairs to values [pairs + 1, c]."""
        wanted = torch.from_numpy(members.ravel()).to(self.bank.device)
        values.index_copy_(0, wanted, found.flatten(0, 1))

    def _put(self, found: Tensor, members: np.ndarray, values: Tensor) -> None:
        """Write values [v, n] of pairs to found [pairs], without the padding."""
        there = torch.from_numpy(members < len(found)).to(found.device)
        found[torch.from_numpy(members).to(found.device)[there]] = values[there]


def _unit(vectors: Tensor) -> Tensor:
    """Vectors [..., c] of length 1; those of no length stay."""
    return vectors * inverse_norm(_squares(vectors))


def _squares(vectors: Tensor) -> Tensor:
    """Squared norms [..., 1] of vectors [..., c], in one pass."""
    return torch.linalg.vector_norm(vectors, dim=-1, keepdim=True, dtype=torch.float32).square()
