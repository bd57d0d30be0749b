"""The meta-learner of MASTAF: it reads an averaged relation map and answers with a kernel over positions."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Mean and unbiased variance [b, l] of one call of the normalisation, for each episode.
Statistics = tuple[Tensor, Tensor]


class EpisodeNorm(nn.Module):
    """BatchNorm whose statistics are those of one episode and one call, however many episodes are batched.

    In training each episode of the batch is normalised by itself, and `update` then moves the running statistics as
    if the episodes had come one after the other (momentum .1; the biased variance normalises, n/(n-1) of it is
    kept). Otherwise the running statistics are used.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, values: Tensor, record: list[Statistics] | None) -> Tensor:
        """values [b, ..., l] of one call -> the same shape; `record` collects the statistics, None means evaluation."""
        if record is None:
            mean, variance = self.running_mean, self.running_var
        else:
            rows = values.flatten(1, -2)  # [b, n, l]
            n = rows.shape[1]
            variance, mean = torch.var_mean(rows, dim=1, correction=0)  # [b, l]
            record.append((mean.detach(), variance.detach() * (n / (n - 1))))
            between = (1,) * (values.dim() - 2)
            mean = mean.view(len(mean), *between, -1)  # [b, 1.., l]
            variance = variance.view(len(variance), *between, -1)  # [b, 1.., l]
        return (values - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias

    @torch.no_grad()
    def update(self, record: list[Statistics]) -> None:
        """Running statistics after the recorded calls: episode by episode, in each the calls in their order."""
        if not record:
            return
        calls = len(record) * len(record[0][0])
        left = torch.arange(calls - 1, -1, -1, device=self.weight.device, dtype=torch.float64)  # [calls]
        shares = self.momentum * (1 - self.momentum) ** left  # [calls]
        for running, part in ((self.running_mean, 0), (self.running_var, 1)):
            seen = torch.stack([entry[part] for entry in record], dim=1).flatten(0, 1)  # [b*k, l], episode by episode
            moved = running.double() * (1 - self.momentum) ** calls + shares @ seen.double()  # [l]
            running.copy_(moved)


class MetaLearner(nn.Module):
    """d = f_gamma(relu(norm(f_delta(mean map)))), equation (4), with f_delta: L -> l and f_gamma: l -> L.

    One is shared by self and cross maps and by both sides. State: first.{weight [l, L], bias [l]},
    second.{weight [L, l], bias [L]} and, with normalisation, norm.{weight, bias, running_mean, running_var} [l].
    """

    def __init__(self, positions: int, bottleneck: int, *, normalised: bool) -> None:
        super().__init__()
        self.first = nn.Linear(positions, bottleneck)
        self.second = nn.Linear(bottleneck, positions)
        self.norm = EpisodeNorm(bottleneck) if normalised else None
        # As the authors initialise 1x1 convolutions: N(0, sqrt(2 / outputs)); biases are PyTorch's.
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.out_features))

    def forward(self, mean_map: Tensor, *, normalise: bool, record: list[Statistics] | None) -> Tensor:
        """mean_map [b, ..., L] of one call -> kernel [b, ..., L]."""
        hidden = self.first(mean_map)  # [b, ..., l]
        if self.norm is not None and normalise:
            hidden = self.norm(hidden, record)  # [b, ..., l]
        return self.second(F.relu(hidden))

    def update(self, record: list[Statistics] | None) -> None:
        """Move the running statistics by the recorded calls."""
        if self.norm is not None and record:
            self.norm.update(record)
