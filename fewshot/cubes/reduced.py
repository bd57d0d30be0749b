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
    each = max(1, _BLOCK_BYTES // (4 * int(np.prod(bank.store.spec.cube_shape))))
    blocks = np.array_split(videos, -(-len(videos) // each))
    return torch.cat([bank.cubes(block).mean(axes, keepdim=True) for block in blocks])


def score_means(
    method: "Method",
    bank: FeatureBank,
    rows: EpisodeRows,
    random: EpisodeRandom,
    advance: Callable[[int], None] | None,
) -> Tensor:
    """Logits float32 [e, q, way] of a list."""
    from ..scoring import chunks

    videos, places = np.unique(np.concatenate([rows.support.ravel(), rows.query.ravel()]), return_inverse=True)
    means = mean_cubes(bank, videos, method.readout)
    supports, queries = (
        part.reshape(wanted.shape)
        for part, wanted in zip(np.split(places, [rows.support.size]), (rows.support, rows.query), strict=True)
    )
    local = EpisodeRows(supports, queries, rows.labels, rows.classes)
    c, t = means.shape[1:3]
    half = bank.product_dtype == torch.bfloat16
    found = []
    for start, part in chunks(local, (c, t, 1, 1)):
        labels, ids = bank.labels(part, None)
        episode = Episode(_take(means, part.support), _take(means, part.query), labels, ids)
        with torch.autocast(bank.device.type, torch.bfloat16, enabled=half):
            found.append(method.score(episode, random.after(start)).float())
        if advance is not None:
            advance(len(part))
    return torch.cat(found)


def _take(means: Tensor, wanted: np.ndarray) -> Tensor:
    """Means [n, c, t, 1, 1] of videos int64 [...]: [..., c, t, 1, 1]."""
    rows = torch.from_numpy(wanted.ravel()).to(means.device)
    return means.index_select(0, rows).view(*wanted.shape, *means.shape[1:])
