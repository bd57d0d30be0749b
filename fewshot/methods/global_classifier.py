"""The classifier over all training classes that regularises a few-shot loss."""

from torch import Tensor, nn
from torch.nn import functional as F


class GlobalClassifier(nn.Linear):
    """Linear layer c -> Z on re-weighted cubes: at each position, or on their mean. State: weight [Z, c], bias [Z].

    W (w_p R_p) + b = (W R)_p w_p + b, so the re-weighted cubes are never made. A class id of -1 (not a training
    class) adds nothing to a loss.
    """

    def dense_loss(self, cubes: Tensor, weights: Tensor | None, ids: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cubes [b, n, c, L], weights [b, n, L] (None: all 1), class ids [b, n] -> scalar; one term a position."""
        logits = self._project(cubes)  # [b, n, Z, L]
        if weights is not None:
            logits = logits * weights.unsqueeze(2)
        return cross_entropy(logits + self.bias[:, None], ids, smoothing=smoothing)

    def pooled_loss(self, cubes: Tensor, weights: Tensor | None, ids: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cubes [b, n, c, L], weights [b, q or 1, n, L] (None: all 1), class ids [b, n] -> scalar; one term a pair."""
        logits = self._project(cubes)  # [b, n, Z, L]
        if weights is None:
            pooled = logits.mean(-1).unsqueeze(1)  # [b, 1, n, Z]
        else:
            columns = weights.permute(0, 2, 3, 1)  # [b, n, L, q or 1]
            pooled = (logits @ columns).permute(0, 3, 1, 2) / logits.shape[-1]  # [b, q or 1, n, Z]
        pooled = (pooled + self.bias).flatten(0, 1)  # [b*q, n, Z]
        return cross_entropy(pooled, ids.repeat_interleave(len(pooled) // len(ids), dim=0), smoothing=smoothing)

    def _project(self, cubes: Tensor) -> Tensor:
        """W R at each position, [b, n, Z, L], at least in the parameters' precision."""
        return (self.weight.to(cubes.dtype) @ cubes).to(self.bias.dtype)


def cross_entropy(logits: Tensor, target: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy; logits [b, n, k] or [b, n, k, L] (one term a position), target [b, n]; -1 is left out.

    smoothing: share of each target that is spread evenly over the k classes.
    """
    scores = logits.flatten(0, 1)  # [b*n, k] or [b*n, k, L]
    wanted = target.flatten()  # [b*n]
    if scores.dim() == 3:
        wanted = wanted[:, None].expand(-1, scores.shape[-1])  # [b*n, L]
    total = F.cross_entropy(scores, wanted, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
    return total / (wanted != -1).sum().clamp_min(1)
