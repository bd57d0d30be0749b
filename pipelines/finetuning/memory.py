"""What a training step keeps in memory, and what to say when there is not enough."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ...extract.backbones.base import Backbone
from ..errors import PipelineError
from .tuning import Tuning

_MB = 2**20


@dataclass(frozen=True)
class Kept:
    """Bytes that one clip keeps in float32 for its gradients. plain: of all stages' activations; checkpointed: of what
    enters each stage, and of the largest stage's activations, which are computed again."""

    plain: int
    checkpointed: int


def kept_bytes(base: Backbone) -> Kept:
    """Measured on a black clip, stage by stage; what is frozen keeps nothing."""
    net = base.module
    was, training = net.checkpointing, net.training
    try:
        net.checkpointing = False
        net.eval()  # running statistics stay
        up_to = [_kept(base, layer) for layer in base.layers]
    finally:
        net.checkpointing = was
        net.train(training)
    stages = [after - before for before, after in zip([0, *up_to], up_to, strict=False)]
    entering = [4 * math.prod(net.cube_shape(layer, base.frames, base.size)) for layer in base.layers[:-1]]
    return Kept(up_to[-1], sum(entering) + max(stages))


def _kept(base: Backbone, layer: str) -> int:
    """Bytes that autograd holds of a clip's pass up to a stage, parameters apart."""
    net = base.module
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor  # held, so that no other tensor gets its place

    shape = (1, base.frames, base.size, base.size, 3)
    clip = torch.zeros(shape, dtype=torch.uint8, device=next(net.parameters()).device)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        cubes = base.front(clip, layer)
    own = {parameter.untyped_storage().data_ptr() for parameter in [*net.parameters(), *net.buffers(), cubes]}
    return sum(size for place, size in seen.items() if place not in own)


@contextmanager
def memory_advice(base: Backbone, tuning: Tuning, unit: str) -> Iterator[None]:
    """Turn "out of memory" inside the block into a PipelineError that says which option lowers it by how much."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        raise PipelineError(f"out of memory in a step of {tuning.batch} {unit}; {_advice(base, tuning)}") from error


def _is_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in words


def _advice(base: Backbone, tuning: Tuning) -> str:
    """Options and what each of them leaves."""
    found = []
    parts = min(tuning.accumulate, tuning.batch)
    if parts < tuning.batch:
        found.append(f"--accumulate {tuning.batch} keeps the activations of 1 in {-(-tuning.batch // parts)} at a time")
    try:
        kept = kept_bytes(base)
        mb = [size / _MB for size in (kept.plain, kept.checkpointed)]
        found.append(
            "" if tuning.checkpointing else f"--checkpointing keeps {mb[1]:.0f} MB a clip instead of {mb[0]:.0f}"
        )
    except (torch.OutOfMemoryError, MemoryError, RuntimeError):
        found.append("" if tuning.checkpointing else "--checkpointing keeps what enters each stage alone")
    if not tuning.freeze:
        found.append(f"--freeze {base.layers[0]} keeps nothing of that stage")
    found.append("--precision bf16 halves it" if tuning.precision == "fp32" else "")
    return "; ".join(word for word in found if word) or "use a smaller --size or --frames"
