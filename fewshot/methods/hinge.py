"""The margin loss of memory networks."""

import torch
from torch import Tensor
from torch.nn import functional as F


def hinge_loss(logits: Tensor, labels: Tensor, *, margin: float, smoothing: float) -> Tensor:
    """Mean of max(0, margin - own + best other) over queries; logits [b, q, way], labels [b, q] -> scalar.

    smoothing: share of each target that is spread evenly over all ways.
    """
    way = logits.shape[-1]
    own = torch.eye(way, dtype=torch.bool, device=logits.device)
    others = logits.unsqueeze(-2).masked_fill(own, float("-inf")).amax(-1)  # [b, q, way], best of the other ways
    losses = torch.relu(margin - logits + others)  # [b, q, way], 0 where there is no other
    target = F.one_hot(labels, way).to(losses.dtype) * (1 - smoothing) + smoothing / way  # [b, q, way]
    return (target * losses).sum(-1).mean()
