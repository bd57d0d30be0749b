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
        return SideMap(self.gram.transpose(-2, -1), self.other, self.own).mean_over_own()


@dataclass(frozen=True, eq=False)
class RelationMaps:
    """Inner products of positions in `b` episodes, float32 (float64 for float64 cubes).

    cross: [b, q, way, L, L], rows = class positions, columns = query positions; class_self: [b, way, L, L];
    query_self: [b, q, L, L], or None where nobody asked; class_squares, query_squares: [b, way, L], [b, q, L], the
    squared norm of each position.
    """

    cross: Tensor
    class_self: Tensor
    query_self: Tensor | None
    class_squares: Tensor
    query_squares: Tensor

    @property
    def class_inverse(self) -> Tensor:
        """One over the norms of class positions, [b, way, L]."""
        return inverse_norm(self.class_squares)

    @property
    def query_inverse(self) -> Tensor:
        """One over the norms of query positions, [b, q, L]."""
        return inverse_norm(self.query_squares)

    def of_class_self(self, cosine: bool) -> SideMap:
        """Class cubes with themselves: [b, way, L, L]."""
        scale = self.class_inverse if cosine else None
        return SideMap(self.class_self, scale, scale)

    def of_query_self(self, cosine: bool) -> SideMap:
        """Queries with themselves: [b, q, L, L]."""
        scale = self.query_inverse if cosine else None
        return SideMap(_asked(self.query_self), scale, scale)

    def of_class_cross(self, cosine: bool) -> SideMap:
        """The class side of each pair: [b, q, way, L, L]."""
        if not cosine:
            return SideMap(self.cross, None, None)
        return SideMap(self.cross, self.class_inverse.unsqueeze(1), self.query_inverse.unsqueeze(2))

    def of_query_cross(self, cosine: bool) -> SideMap:
        """The query side of each pair: [b, q, way, L, L], own = query."""
        side = self.of_class_cross(cosine)
        return SideMap(side.gram.transpose(-2, -1), side.other, side.own)


def relate(classes: Tensor, queries: Tensor, *, query_self: bool = True) -> RelationMaps:
    """Relation maps of class cubes [b, way, c, L] and queries [b, q, c, L]; products in the cubes' own type.

    Fast for both layouts: [.., c, L] contiguous, and positions-first memory seen through a transposed view.
    """
    b, way, _, size = classes.shape
    q = queries.shape[1]
    product = _side_by_side(classes).transpose(1, 2) @ _side_by_side(queries)  # [b, way*L, q*L]
    cross = _wide(product).view(b, way, size, q, size).permute(0, 3, 1, 2, 4)  # [b, q, way, L, L]
    class_self = _wide(classes.transpose(-2, -1) @ classes)  # [b, way, L, L]
    own = _wide(queries.transpose(-2, -1) @ queries) if query_self else None  # [b, q, L, L]
    squares = _wide(queries).square().sum(-2) if own is None else own.diagonal(dim1=-2, dim2=-1)  # [b, q, L]
    class_squares = class_self.diagonal(dim1=-2, dim2=-1)  # [b, way, L]
    return RelationMaps(cross, class_self, own, class_squares, squares)


def inverse_norm(squares: Tensor) -> Tensor:
    """1 / sqrt(squares), and 1 where there is no norm to speak of; any shape. Finite gradients everywhere."""
    return torch.where(squares > _ZERO, squares, torch.ones_like(squares)).rsqrt()


def pooled_cosine(maps: RelationMaps, of_class: Tensor, of_query: Tensor) -> Tensor:
    """Cosine of position means, [b, q, way]; weights [b, q or 1, way, L] and [b, q, way or 1, L]."""
    towards = (of_class.unsqueeze(-2) @ maps.cross).squeeze(-2)  # [b, q, way, L]
    class_norm = inverse_norm(_class_squares(maps, of_class))  # [b, q or 1, way]
    query_norm = inverse_norm(((of_query @ _asked(maps.query_self)) * of_query).sum(-1))  # [b, q, way or 1]
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


def _wide(values: Tensor) -> Tensor:
    """At least float32: what follows a product is small, and half precision would lose the attention in it."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _asked(query_self: Tensor | None) -> Tensor:
    if query_self is None:
        raise RuntimeError("query self maps are needed here, but relate() was called with query_self=False")
    return query_self
