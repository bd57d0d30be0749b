"""Which parts of a network are trained, how fast, and what its BatchNorm does meanwhile."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...extract.backbones.base import Backbone
from ...fewshot.training.optimiser import optimiser_of
from ..errors import PipelineError
from .tuning import Tuning


def freeze(base: Backbone, stages: Iterable[str], *, front: str | None = None) -> None:
    """Let the parameters of these stages keep their values; with `front` those of all stages up to this one too."""
    for stage in frozen_stages(base, stages, front=front):
        stage.requires_grad_(False)
    if not any(p.requires_grad for p in base.module.parameters()):
        raise PipelineError("freeze must leave a stage with parameters to train; name fewer")


def frozen_stages(base: Backbone, stages: Iterable[str], *, front: str | None = None) -> list[nn.Module]:
    """The modules of these stages, and of all up to `front`."""
    names = set(stages)
    if front is not None:
        names |= set(base.layers[: base.layers.index(front) + 1])
    return [stage for name, stage in base.module.stages().items() if name in names]


def training_mode(base: Backbone, head: nn.Module, tuning: Tuning, *, front: str | None = None) -> None:
    """Put network and head into training mode: frozen stages stay in evaluation mode, and with `batchnorm` frozen
    every BatchNorm of the network."""
    base.module.train()
    for stage in frozen_stages(base, tuning.freeze, front=front):
        stage.eval()
    if tuning.batchnorm == "frozen":
        for part in base.module.modules():
            if isinstance(part, _BatchNorm):
                part.eval()
    head.train()


def make_optimiser(base: Backbone, head: nn.Module, tuning: Tuning) -> torch.optim.Optimizer:
    """The optimiser of what is trained: backbone and head by their own learning rates (each group's `full_lr`), scales
    and biases without weight decay."""
    groups: list[dict[str, Any]] = []
    for module, lr in ((base.module, tuning.lr), (head, tuning.head_lr)):
        trained = [p for p in module.parameters() if p.requires_grad]
        matrices, vectors = [p for p in trained if p.dim() > 1], [p for p in trained if p.dim() <= 1]
        for parameters, decay in ((matrices, tuning.weight_decay), (vectors, 0.0)):
            if parameters:
                groups.append({"params": parameters, "lr": lr, "full_lr": lr, "weight_decay": decay})
    return optimiser_of(groups, tuning.optimiser, momentum=tuning.momentum)
