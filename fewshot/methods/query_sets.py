"""The queries of an episode as sets, one for each way."""

import torch
from torch import Tensor

from ..errors import FewShotError


def require_even(labels: Tensor, way: int) -> None:
    """Raise FewShotError unless labels [b, q] hold every way equally often."""
    counts = torch.stack([(labels == n).sum(1) for n in range(way)], dim=1)  # [b, way]
    if labels.shape[1] % way or not bool((counts == labels.shape[1] // way).all()):
        raise FewShotError(
            f"labels ({labels.shape[1]} queries of {way} ways) must be equally many of each way; "
            "train with --query-mode per_class"
        )


def queries_by_way(query: Tensor, labels: Tensor, way: int) -> Tensor:
    """query [b, q, ...], labels [b, q] -> [b, way, q/way, ...], those of a way in their order; errors as above."""
    require_even(labels, way)
    rows = torch.arange(len(labels), device=labels.device).unsqueeze(1)  # [b, 1]
    return query[rows, labels.argsort(dim=1, stable=True)].unflatten(1, (way, -1))
