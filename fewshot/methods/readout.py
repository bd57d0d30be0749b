"""What heads read from a cube, and the distances and similarities between what they have read."""

import torch
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """The values in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def vectors(cubes: Tensor) -> Tensor:
    """Mean over time and space: cubes [..., c, t, h, w] -> [..., c], float32 at least."""
    return cubes.mean((-3, -2, -1), dtype=torch.promote_types(cubes.dtype, torch.float32))


def sequences(cubes: Tensor) -> Tensor:
    """Mean over space: cubes [..., c, t, h, w] -> [..., t, c], float32 at least."""
    return cubes.mean((-2, -1), dtype=torch.promote_types(cubes.dtype, torch.float32)).transpose(-1, -2)


def positions(cubes: Tensor) -> Tensor:
    """Every place in time and space, row by row: cubes [..., c, t, h, w] -> [..., t*h*w, c], float32 at least."""
    return widened(cubes).flatten(-3).transpose(-1, -2)


def squared_distances(query: Tensor, classes: Tensor) -> Tensor:
    """query [b, q, d], classes [b, way, d] -> [b, q, way]."""
    return (query.unsqueeze(2) - classes.unsqueeze(1)).square().sum(-1)


def soft_cosine(u: Tensor, v: Tensor) -> Tensor:
    """u.v / (|u| |v| + 0.01) of all pairs: u [..., n, d], v [..., m, d] -> [..., n, m].

    The hundredth keeps it finite for vectors of no length; several published heads share it.
    """
    lengths = torch.linalg.vector_norm(u, dim=-1).unsqueeze(-1) * torch.linalg.vector_norm(v, dim=-1).unsqueeze(-2)
    return (u @ v.transpose(-1, -2)) / (lengths + 0.01)
