"""Scoring heads that read means of cubes: each video's mean is taken once, however many episodes it is in."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..episodes.episode import Episode, EpisodeRows
from ..episodes.randomness import EpisodeRandom
from .bank import FeatureBank

if TYPE_CHECKING:
    from ..methods.base import Method

_BLOCK_BYTES = 64 * 2**20  # float32 cubes read at once


def mean_cubes(bank: FeatureBank, videos: np.ndarray, readout: str) -> Tensor:
    """What a head of this readout reads of videos int64 [n], float32 [n, c, t or 1, 1, 1]."""
    axes = (-2, -1) if readout == "seq" else (-3, -2, -1)
    blocks = in_blocks(videos, bank.store.spec.cube_shape)
    return torch.cat([bank.cubes(block).mean(axes, keepdim=True) for block in blocks])


def in_blocks(videos: np.ndarray, cube_shape: tuple[int, int, int, int]) -> list[np.ndarray]:
    """Videos int64 [n] in parts whose cubes are read at once."""
    each = max(1, _BLOCK_BYTES // (4 * int(np.prod(cube_shape))))
    return np.array_split(videos, -(-len(videos) // each))


def used_videos(rows: EpisodeRows) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """The different videos of a list, int64 [n], and supports and queries as places among them."""
    videos, places = np.unique(np.concatenate([rows.support.ravel(), rows.query.ravel()]), return_inverse=True)
    support, query = np.split(places, [rows.support.size])
    return videos, (support.reshape(rows.support.shape), query.reshape(rows.query.shape))


def half_where_asked(bank: FeatureBank) -> torch.autocast:
    """A context in which products have bfloat16 operands if the bank is asked for these."""
    return torch.autocast(bank.device.type, torch.bfloat16, enabled=bank.product_dtype == torch.bfloat16)


def score_means(
    method: "Method",
    bank: FeatureBank,
    rows: EpisodeRows,
    random: EpisodeRandom,
    advance: Callable[[int], None] | None,
) -> Tensor:
    """Logits float32 [e, q, way] of a list."""
    from ..scoring import chunks

    videos, (supports, queries) = used_videos(rows)
    means = mean_cubes(bank, videos, method.readout)
    local = EpisodeRows(supports, queries, rows.labels, rows.classes)
    c, t = means.shape[1:3]
    found = []
    for start, part in chunks(local, (c, t, 1, 1), bank.device):
        labels, ids = bank.labels(part, None)
        episode = Episode(_take(means, part.support), _take(means, part.query), labels, ids)
        with half_where_asked(bank):
            found.append(method.score(episode, random.after(start)).float())
        if advance is not None:
            advance(len(part))
    return torch.cat(found)


def _take(means: Tensor, wanted: np.ndarray) -> Tensor:
    """Means [n, c, t, 1, 1] of videos int64 [...]: [..., c, t, 1, 1]."""
    rows = torch.from_numpy(wanted.ravel()).to(means.device)
    return means.index_select(0, rows).view(*wanted.shape, *means.shape[1:])
