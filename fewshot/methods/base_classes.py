"""The classifier over all training classes that heads which are not episodic learn first."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..episodes.episode import Episode
from .readout import vectors


def videos_and_classes(episode: Episode) -> tuple[Tensor, Tensor]:
    """Every video of an episode as a vector, [m, c], and its global class id, [m] (-1: not a training class)."""
    b, way, shot = episode.support.shape[:3]
    support, query = vectors(episode.support), vectors(episode.query)  # [b, way, shot, c], [b, q, c]
    read = torch.cat([support.flatten(1, 2), query], dim=1)  # [b, way*shot + q, c]
    ids = episode.class_ids
    known = torch.cat([ids.unsqueeze(2).expand(b, way, shot).flatten(1), ids.gather(1, episode.labels)], dim=1)
    return read.flatten(0, 1), known.flatten()


def class_loss(logits: Tensor, ids: Tensor, *, smoothing: float) -> Tensor:
    """Mean cross-entropy of logits [m, Z] with global ids [m]; -1 is left out."""
    total = F.cross_entropy(logits, ids, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
    return total / (ids != -1).sum().clamp_min(1)
