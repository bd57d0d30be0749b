"""What a run's settings of the optimisation are in torch."""

from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn

from ..errors import FewShotError
from .optimisation import OPTIMISERS
from .run_config import RunConfig


def make_optimiser(parameters: Iterable[nn.Parameter], config: RunConfig) -> torch.optim.Optimizer:
    """The optimiser of a run's settings. Raises FewShotError for one that does not exist."""
    wanted, lr, decay = list(parameters), config.lr, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(wanted, lr=lr, momentum=config.momentum, weight_decay=decay)
    if config.optimiser == "adam":
        return torch.optim.Adam(wanted, lr=lr, weight_decay=decay)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(wanted, lr=lr, weight_decay=decay)
    raise FewShotError(f"optimiser ({config.optimiser}) must be one of {', '.join(OPTIMISERS)}")


def loss_precision(config: RunConfig, device: torch.device) -> AbstractContextManager[object]:
    """The context in which a loss is computed: bfloat16 products, which unlike float16 need no scaling of the loss."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train_precision == "bf16")
