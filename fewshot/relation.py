"""Relation maps: inner products between the positions of two cubes, and every score that follows from them alone.

A cube [c, t, h, w] is a matrix R [c, L] of its L = t*h*w positions, row-major over (t, h, w). With weights w >= 0 on
positions, the re-weighted cube is R diag(w). Between a class P and a query Q, G = P^T Q [L, L] is enough, because

    pooled   mean(P wp) . mean(Q wq)     =  wp^T G wq / L^2         squared norms  w^T (R^T R) w / L^2
    flat     sum_l wp_l wq_l P_l . Q_l   =  sum_l wp_l wq_l G_ll    squared norms  sum_l w_l^2 |R_l|^2
    dense    mean(P wp) . Q_p            =  (wp^T G)_p / L

so no re-weighted cube is ever made: an episode costs one matrix product [way*L, c] x [c, q*L] and the self maps.
Cosines follow u / max(|u|, 1e-12); a position that is all zeros has no direction, scores 0 and gets no gradient
through its norm (where a plain square root would give an infinite one).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_ZERO = 1e-24  # square of the least norm that counts


@dataclass(frozen=True, eq=False)
class SideMap:
    """One side's relation map M[i, j] = own[i] * gram[i, j] * other[j], kept in factors.

    gram: [..., L, L], rows = positions of the cube to be re-weighted ("own"), columns = those of the other cube;
    own, other: [..., L], inverse norms where relations are cosines; None where they are raw inner products.
    """

    gram: Tensor
    own: Tensor | None
    other: Tensor | None

    @cached_property
    def mean_over_own(self) -> Tensor:
        """(1/L) sum_i M[i, :], indexed by the other cube's positions: [..., L]."""
        size = self.gram.shape[-2]
        if self.own is None or self.other is None:
            return self.gram.mean(-2)
        return (self.own.unsqueeze(-2) @ self.gram).squeeze(-2) * self.other / size  # [..., L]

    def apply(self, kernel: Tensor) -> Tensor:
        """sum_j M[:, j] kernel[j], indexed by own positions; kernel [..., L]; gives [..., L]."""
        weighted = kernel if self.other is None else kernel * self.other
        fused = (self.gram @ weighted.unsqueeze(-1)).squeeze(-1)  # [..., L]
        return fused if self.own is None else fused * self.own

    def mean_over_other(self) -> Tensor:
        """(1/L) sum_j M[:, j], indexed by own positions: [..., L]."""
        return SideMap(self.gram.transpose(-2, -1), self.other, self.own).mean_over_own


class RelationMaps:
    """Inner products of positions in `b` episodes, float32 (float64 for float64 cubes), each made when it is asked for.

    classes: [b, way, c, L]; queries: [b, q, c, L]; fast for both layouts, [.., c, L] contiguous and positions-first
    memory seen through a transposed view. cross: [b, q, way, L, L], class_self: [b, way, L, L] and query_self:
    [b, q, L, L] where they are known already; who gives all three need not give cubes. Several heads may read the same
    maps: what does not depend on their parameters is made once.
    """

    def __init__(
        self,
        classes: Tensor | None,
        queries: Tensor | None,
        *,
        cross: Tensor | None = None,
        class_self: Tensor | None = None,
        query_self: Tensor | None = None,
    ) -> None:
        self._classes, self._queries = classes, queries
        self._cross, self._class_self, self._query_self = cross, class_self, query_self
        self._sides: dict[tuple[str, bool], SideMap] = {}

    @cached_property
    def cross(self) -> Tensor:
        """[b, q, way, L, L], rows = class positions, columns = query positions."""
        if self._cross is not None:
            return self._cross
        classes, queries = _there(self._classes), _there(self._queries)
        (b, way, _, size), q = classes.shape, queries.shape[1]
        first, second = _side_by_side(classes), _side_by_side(queries)  # [b, c, way*L], [b, c, q*L]
        if classes.dtype == torch.bfloat16:  # which factor should come first is a matter of the processor's kernels
            product = wide(first.transpose(1, 2) @ second).view(b, way, size, q, size)
            return product.permute(0, 3, 1, 2, 4).contiguous()  # [b, q, way, L, L]
        product = wide(second.transpose(1, 2) @ first).view(b, q, size, way, size)
        return product.permute(0, 1, 3, 4, 2).contiguous()  # [b, q, way, L, L]

    @cached_property
    def class_self(self) -> Tensor:
        """[b, way, L, L]."""
        return self_maps(_there(self._classes)) if self._class_self is None else self._class_self

    @cached_property
    def query_self(self) -> Tensor:
        """[b, q, L, L]."""
        return self_maps(_there(self._queries)) if self._query_self is None else self._query_self

    @cached_property
    def class_squares(self) -> Tensor:
        """The squared norm of each position of a class, [b, way, L]."""
        return self.class_self.diagonal(dim1=-2, dim2=-1)

    @cached_property
    def query_squares(self) -> Tensor:
        """The squared norm of each position of a query, [b, q, L]."""
        if self._query_self is None:  # the same numbers whether or not anybody asks for the map itself
            return wide(_there(self._queries)).square().sum(-2)
        return self._query_self.diagonal(dim1=-2, dim2=-1)

    @cached_property
    def class_inverse(self) -> Tensor:
        """One over the norms of class positions, [b, way, L]."""
        return inverse_norm(self.class_squares)

    @cached_property
    def query_inverse(self) -> Tensor:
        """One over the norms of query positions, [b, q, L]."""
        return inverse_norm(self.query_squares)

    def side(self, name: str, cosine: bool) -> SideMap:
        """`class_self` [b, way, L, L], `query_self` [b, q, L, L], or one side of each pair, [b, q, way, L, L]:
        `class_cross` or `query_cross`; relations are cosines or raw inner products."""
        if (name, cosine) not in self._sides:
            self._sides[name, cosine] = self._make_side(name, cosine)
        return self._sides[name, cosine]

    def _make_side(self, name: str, cosine: bool) -> SideMap:
        of_class, of_query = (self.class_inverse, self.query_inverse) if cosine else (None, None)
        if name == "class_self":
            return SideMap(self.class_self, of_class, of_class)
        if name == "query_self":
            return SideMap(self.query_self, of_query, of_query)
        of_class = None if of_class is None else of_class.unsqueeze(1)  # [b, 1, way, L]
        of_query = None if of_query is None else of_query.unsqueeze(2)  # [b, q, 1, L]
        if name == "class_cross":
            return SideMap(self.cross, of_class, of_query)
        return SideMap(self.cross.transpose(-2, -1), of_query, of_class)


def self_maps(cubes: Tensor) -> Tensor:
    """Relation maps [..., L, L] of cubes [..., c, L] with themselves, at least float32."""
    return wide(cubes.transpose(-2, -1) @ cubes)


def inverse_norm(squares: Tensor) -> Tensor:
    """1 / sqrt(squares), and 1 where there is no norm to speak of; any shape. Finite gradients everywhere."""
    return torch.where(squares > _ZERO, squares, torch.ones_like(squares)).rsqrt()


def pooled_cosine(maps: RelationMaps, of_class: Tensor, of_query: Tensor) -> Tensor:
    """Cosine of position means, [b, q, way]; weights [b, q or 1, way, L] and [b, q, way or 1, L]."""
    towards = (of_class.unsqueeze(-2) @ maps.cross).squeeze(-2)  # [b, q, way, L]
    class_norm = inverse_norm(_class_squares(maps, of_class))  # [b, q or 1, way]
    query_norm = inverse_norm(((of_query @ maps.query_self) * of_query).sum(-1))  # [b, q, way or 1]
    return (towards * of_query).sum(-1) * class_norm * query_norm


def flat_cosine(maps: RelationMaps, of_class: Tensor, of_query: Tensor) -> Tensor:
    """Cosine of whole cubes as vectors of c*L, [b, q, way]; weights [b, q or 1, way, L] and [b, q, way or 1, L]."""
    aligned = maps.cross.diagonal(dim1=-2, dim2=-1)  # [b, q, way, L]
    class_norm = inverse_norm((of_class.square() * maps.class_squares.unsqueeze(1)).sum(-1))  # [b, q or 1, way]
    query_norm = inverse_norm((of_query.square() * maps.query_squares.unsqueeze(2)).sum(-1))  # [b, q, way or 1]
    return (aligned * of_class * of_query).sum(-1) * class_norm * query_norm


def dense_cosine(maps: RelationMaps, of_class: Tensor) -> Tensor:
    """Cosine of each query position with the class mean, [b, q, way, L]; weights [b, q or 1, way, L].

    Weights of query positions would cancel, so there are none (and a weight that underflows to 0 does no harm).
    """
    towards = (of_class.unsqueeze(-2) @ maps.cross).squeeze(-2)  # [b, q, way, L]
    class_norm = inverse_norm(_class_squares(maps, of_class)).unsqueeze(-1)  # [b, q or 1, way, 1]
    return towards * class_norm * maps.query_inverse.unsqueeze(2)


def _class_squares(maps: RelationMaps, weights: Tensor) -> Tensor:
    """w^T (P^T P) w for weights [b, q or 1, way, L]: [b, q or 1, way]."""
    by_class = weights.transpose(1, 2)  # [b, way, q or 1, L]
    return ((by_class @ maps.class_self) * by_class).sum(-1).transpose(1, 2)


def _side_by_side(cubes: Tensor) -> Tensor:
    """[b, n, c, L] -> [b, c, n*L], copying runs of L numbers at most, never single ones."""
    if cubes.stride(-2) == 1:  # positions first in memory
        return cubes.transpose(-2, -1).flatten(1, 2).transpose(1, 2)  # [b, c, n*L]
    return cubes.transpose(1, 2).flatten(2)  # [b, c, n*L]


def wide(values: Tensor) -> Tensor:
    """At least float32: what follows a product is small, and half precision would lose the attention in it."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _there(cubes: Tensor | None) -> Tensor:
    if cubes is None:
        raise RuntimeError("a relation map is needed that is not known, and there are no cubes to make it of")
    return cubes
