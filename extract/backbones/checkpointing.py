"""Gradient checkpointing: a stage's activations are forgotten after the pass, and computed again for its gradients."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_again_for_gradients(stage: nn.Module, x: Tensor) -> Tensor:
    """stage(x), [b, c, t, h, w] in and out."""
    return _checkpointed(stage, stage, x)


@contextmanager
def runs_again_for_gradients(module: nn.Module) -> Iterator[None]:
    """Let a module that others call run so inside the block, whatever it takes."""
    if "forward" in module.__dict__:  # stood in for: nothing is computed
        yield
        return
    forward = module.forward
    module.forward = lambda *args, **kwargs: _checkpointed(module, forward, *args, **kwargs)
    try:
        yield
    finally:
        del module.forward


def _checkpointed(module: nn.Module, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(module)

    return checkpoint(run, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of BatchNorm as they are: the first pass has moved them already."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    counters = [None if count is None else count.clone() for _, _, count in before]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum, count), kept in zip(before, counters, strict=True):
            norm.momentum = momentum
            if count is not None and kept is not None:
                count.copy_(kept)
