"""What one query video costs a backbone and a head: measured in a process that does nothing else.

`python -m mastaf.pipelines.cost_point` reads a point as JSON from its input and writes what it measured as JSON.
"""

import ctypes
import gc
import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..extract.backbones.inference import resolve_precision
from ..extract.backbones.registry import load_backbone
from ..extract.errors import ExtractError
from ..fewshot.environment import describe_device, resolve_device, versions
from ..fewshot.errors import FewShotError
from ..fewshot.flops import count_flops, random_episode, score_one
from ..fewshot.methods.registry import load_method

_WARM_UP = 2
_MB = 2**20


def measure(
    *,
    backbone: str,
    method: str,
    frames: int,
    size: int | None,
    way: int,
    shot: int,
    precision: str,
    device: str,
    threads: int | None,
    repeats: int,
) -> dict[str, Any]:
    """Costs of one query video, with random weights, which cost what trained ones do.

    The backbone takes the clip of the query in the form that extraction uses (BatchNorm folded), the head one episode
    whose support cubes are at hand. Peak memory: the process's largest resident size while it does both, or on an
    accelerator the largest size of its tensors; `idle_mb`: before any network was made. Raises ExtractError or
    FewShotError where backbone and head do not fit together.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    chosen, idle = resolve_device(device), _resident("VmRSS")
    plain = load_backbone(backbone, weights="random", frames=frames, size=size)
    head = load_method(method).build(cube_shape=plain.cube_shape, n_train_classes=0).eval().to(chosen)
    parameters = sum(p.numel() for p in plain.module.parameters())
    precision = resolve_precision(precision, chosen, frames=frames)
    run = plain.prepare_for_inference(precision, chosen)
    clip = torch.zeros((1, frames, plain.size, plain.size, 3), dtype=torch.uint8).random_(256)
    episode = random_episode(plain.cube_shape, way=way, shot=shot).to(chosen)
    # The folded copy is all that inference needs; on the meta device the plain one has shapes alone.
    plain.module.to("meta")
    _forget_peak(chosen)
    of_backbone = _times(lambda: run(clip), repeats)
    of_head = _times(lambda: score_one(head, episode), repeats)
    peak = _peak(chosen)
    total = of_backbone + of_head  # [repeats]
    flops = count_flops(lambda: plain.forward(clip.to("meta"))), count_flops(lambda: score_one(head, episode))
    return {
        "cube": list(plain.cube_shape),
        "size": plain.size,
        "precision": precision,
        "backbone_parameters": parameters,
        "head_parameters": sum(p.numel() for p in head.parameters()),
        "backbone_gflop": flops[0] / 1e9,
        "head_gflop": flops[1] / 1e9,
        "gflop": sum(flops) / 1e9,
        "episode_gflop": (flops[0] * (way * shot + 1) + flops[1]) / 1e9,
        "backbone_ms": float(np.median(of_backbone)),
        "head_ms": float(np.median(of_head)),
        "ms": float(np.median(total)),
        "ms_fastest": float(total.min()),
        "ms_quartiles": [float(value) for value in np.quantile(total, (0.25, 0.75))],
        "peak_mb": peak,
        "idle_mb": idle if chosen.type == "cpu" else 0.0,
        "device": describe_device(chosen),
        "versions": versions(),
    }


def _times(call: Callable[[], Tensor], repeats: int) -> np.ndarray:
    """Milliseconds of each call, [repeats]; a call ends with a copy to the CPU, so an accelerator is waited for."""
    for _ in range(_WARM_UP):
        call()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - start))
    return np.array(found)


def _forget_peak(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    # What making the networks left free goes back to the system; then the mark starts from what is in use. Where a
    # libc or kernel lacks either, making the networks counts too.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _peak(device: torch.device) -> float:
    # Not resource.getrusage: a process inherits the largest size that its parent ever had.
    return torch.cuda.max_memory_allocated(device) / _MB if device.type == "cuda" else _resident("VmHWM")


def _resident(field: str) -> float:
    """MB of a field of this process's status."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main() -> None:
    """Measure the point on standard input."""
    try:
        found = measure(**json.load(sys.stdin))
    except (ExtractError, FewShotError) as error:
        found = {"skipped": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
