"""The fast form of a backbone, for extraction alone: BatchNorm folded, channels last, at a chosen precision."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ExtractError

if TYPE_CHECKING:
    from .base import Backbone

WORST_ERROR = 0.1  # of a cube's norm; bfloat16 is off by 0.01 here
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: torch.device | str, *, frames: int | None = None) -> str:
    """`auto` -> `bf16` where the CPU has AMX or the GPU bfloat16 units, else `fp32`; other names are checked.

    Clips of one frame are `fp32`: oneDNN's bfloat16 convolutions over a single frame are wrong.
    """
    if precision != "auto":
        if precision not in PRECISIONS:
            raise ExtractError(f"precision ('{precision}') must be auto, {', '.join(PRECISIONS)}")
        return precision
    if frames == 1:
        return "fp32"
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_has_amx() else "fp32"


def cpu_has_amx() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in tiles. Without them, bfloat16 is slower than float32."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def prepare(backbone: "Backbone", *, precision: str, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """See `Backbone.prepare_for_inference`. ExtractError where the machine gets this precision wrong."""
    precision = resolve_precision(precision, device, frames=backbone.frames)
    run = _folded(backbone, PRECISIONS[precision], device)
    if precision != "fp32":
        _check_precision(backbone, run, precision, device)
    return run


def _check_precision(
    backbone: "Backbone", run: Callable[[Tensor], Tensor], precision: str, device: torch.device | str
) -> None:
    """Compare one random clip with fp32. oneDNN's bfloat16 convolutions over a single frame, for one, are wrong."""
    frames, size = backbone.frames, backbone.size
    draw = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (1, frames, size, size, 3), dtype=torch.uint8, generator=draw)
    exact, found = _folded(backbone, torch.float32, device)(clip), run(clip)  # [1, c, t, h, w]
    error = float((found - exact).norm() / exact.norm().clamp_min(1e-6))
    if not error <= WORST_ERROR:
        raise ExtractError(
            f"precision ({precision}) gives wrong cubes of {backbone.name} on this machine: "
            f"{100 * error:.0f} % off fp32 on a random clip of {frames} frames; use --precision fp32"
        )


def _folded(backbone: "Backbone", dtype: torch.dtype, device: torch.device | str) -> Callable[[Tensor], Tensor]:
    stages = copy.deepcopy(backbone.module).stages()
    used = list(stages.values())[: list(stages).index(backbone.layer) + 1]
    net = fold_batchnorm(nn.Sequential(*used).eval().requires_grad_(False))
    net = channels_last(net.to(device=device, dtype=dtype))

    @torch.inference_mode()
    def run(clips: Tensor) -> Tensor:
        x = backbone.normalise(clips.to(device, non_blocking=True)).to(dtype)  # [b, 3, t, h, w]
        return net(x).float().contiguous().cpu()  # [b, c, t, h, w]

    return run


def channels_last(net: nn.Module) -> nn.Module:
    """Lay the convolutions' weights out with channels last, in place: the layout that clips arrive in."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return net


def fold_batchnorm(net: nn.Module) -> nn.Module:
    """Fold each BatchNorm into the convolution registered right before it, in place; `net` must be in eval mode."""
    previous: tuple[str, nn.Module] = ("", net)
    for name, child in list(net.named_children()):
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d) and isinstance(previous[1], nn.Conv2d | nn.Conv3d):
            net.add_module(previous[0], fuse_conv_bn_eval(previous[1], child))
            net.add_module(name, nn.Identity())
        else:
            fold_batchnorm(child)
        previous = (name, child)
    return net
