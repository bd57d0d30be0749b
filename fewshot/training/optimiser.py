"""What a run's settings of the optimisation are in torch."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn

from ..errors import FewShotError
from .optimisation import OPTIMISERS
from .run_config import RunConfig


def make_optimiser(parameters: Iterable[nn.Parameter], config: RunConfig) -> torch.optim.Optimizer:
    """The optimiser of a run's settings. Raises FewShotError for one that does not exist."""
    group = {"params": list(parameters), "lr": config.lr, "weight_decay": config.weight_decay}
    return optimiser_of([group], config.optimiser, momentum=config.momentum)


def optimiser_of(groups: list[dict[str, Any]], name: str, *, momentum: float = 0.0) -> torch.optim.Optimizer:
    """The optimiser of that name for groups of parameters, each with lr and weight decay. Raises FewShotError."""
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=momentum)
    if name == "adam":
        return torch.optim.Adam(groups)
    if name == "adamw":
        return torch.optim.AdamW(groups)
    raise FewShotError(f"optimiser ({name}) must be one of {', '.join(OPTIMISERS)}")


def loss_precision(config: RunConfig, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a loss is computed: bfloat16 products, which unlike float16 need no scaling of the loss."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train_precision == "bf16")
