"""Copying many cubes at once: bounded by memory, and not disturbed by other work on the machine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

# torch copies fewer elements than this without OpenMP. Its threads wait for each other at every copy, so with other
# work on the cores a cube would cost a time slice of the scheduler: 100 times the copy itself.
_PIECE = 32_767


def copy_cubes(sources: Sequence[Tensor], out: Tensor) -> None:
    """Copy sources, m tensors [c, t, h, w], into out [m, c, t, h, w], converting the float type."""
    flat = out.view(len(out), -1)  # [m, c*t*h*w]
    workers = min(torch.get_num_threads(), len(sources))
    if workers <= 1 or flat.shape[1] < 1_024:
        _copy_part(sources, flat, range(len(sources)))
        return
    bounds = [len(sources) * k // workers for k in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(_copy_part, sources, flat, range(*bounds[k : k + 2])) for k in range(workers)]
        for job in jobs:
            job.result()


def _copy_part(sources: Sequence[Tensor], flat: Tensor, part: range) -> None:
    size = flat.shape[1]
    for i in part:
        source, target = sources[i].reshape(-1), flat[i]  # [c*t*h*w] each
        for start in range(0, size, _PIECE):
            target[start : start + _PIECE].copy_(source[start : start + _PIECE])
