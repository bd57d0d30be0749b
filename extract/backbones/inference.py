"""The fast form of a backbone, for extraction alone: BatchNorm folded, channels last, at a chosen precision."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ExtractError
from .check import check_cubes, random_clips

if TYPE_CHECKING:
    from .base import Backbone

Net = TypeVar("Net", bound=nn.Module)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
FOLDING_ERROR = 0.01  # of a cube's norm, where a GPU rounds the products of float32; a wrong folding is far off
WORST_ERROR = 0.1  # of a cube's norm; bfloat16 is off by 0.01 here
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_precision(precision: str, device: torch.device | str, *, frames: int | None = None) -> str:
    """`auto` -> `bf16` where the CPU or GPU has units for it, else `fp32`; other names are checked.

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
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers itself, by AMX or AVX512-BF16. Elsewhere they are slower than
    float32."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"amx_bf16", "avx512_bf16"})


def prepare(
    backbones: Sequence["Backbone"], *, precision: str, device: torch.device | str
) -> Callable[[Tensor], list[Tensor]]:
    """A fast function, uint8 clips [b, frames, size, size, 3] -> float32 cubes [b, *cube_shape] of each backbone.

    backbones: one, or several layers of one network (see `Backbone.at`), computed in one pass. ExtractError where
    the machine gets this precision wrong, and where a backbone's cubes are not what it declares.
    """
    first = backbones[0]
    if any(other.module is not first.module or other.pixels != first.pixels for other in backbones):
        raise ExtractError("layers computed in one pass must be of one network; load it once and use Backbone.at")
    precision = resolve_precision(precision, device, frames=first.frames)
    exact = check_cubes(backbones, _runner(backbones, torch.float32, device, fold=False))
    fold = _may_fold(backbones, exact, device)
    run = _runner(backbones, PRECISIONS[precision], device, fold=fold)
    if precision != "fp32":
        # oneDNN's bfloat16 convolutions over a single frame, for one, are wrong.
        error = _worst(run(random_clips(first)), exact)
        if not error <= WORST_ERROR:
            raise ExtractError(
                f"precision ({precision}) gives wrong cubes of {first.name} on this machine: {100 * error:.0f} % off "
                f"fp32 on random clips of {first.frames} frames; use --precision fp32"
            )
    return run


def _may_fold(backbones: Sequence["Backbone"], exact: Sequence[Tensor], device: torch.device | str) -> bool:
    """Whether the cubes stay the same: a network may apply a BatchNorm elsewhere than where it is registered."""
    if not any(isinstance(part, _NORMS) for part in backbones[0].module.modules()):
        return False
    try:
        found = _runner(backbones, torch.float32, device, fold=True)(random_clips(backbones[0]))
    except (RuntimeError, ValueError, TypeError):  # of other widths
        return False
    return _worst(found, exact) <= FOLDING_ERROR


def _worst(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of cubes [b, c, t, h, w], as a share of their norm; NaN where there is one."""
    pairs = zip(found, exact, strict=True)
    errors = torch.stack([(one - other).norm() / other.norm().clamp_min(1e-6) for one, other in pairs])  # [layers]
    return float(errors.max())


def _runner(
    backbones: Sequence["Backbone"], dtype: torch.dtype, device: torch.device | str, *, fold: bool
) -> Callable[[Tensor], list[Tensor]]:
    first, layers = backbones[0], [backbone.layer for backbone in backbones]
    net = copy.deepcopy(first.module).eval().requires_grad_(False)
    net = fold_batchnorm(net) if fold else net
    net = channels_last(net.to(device=device, dtype=dtype))

    @torch.inference_mode()
    def run(clips: Tensor) -> list[Tensor]:
        x = first.normalise(clips.to(device, non_blocking=True)).to(dtype)  # [b, 3, t, h, w]
        found = net.outputs(x, layers)
        return [b.pool(found[b.layer].float()).contiguous().cpu() for b in backbones]  # of [b, c, t, h, w]

    return run


def channels_last(net: Net) -> Net:
    """Lay the convolutions' weights out with channels last, in place: the layout that clips arrive in."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in net.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
    return net


def fold_batchnorm(net: Net) -> Net:
    """Fold each BatchNorm into the convolution registered right before it, in place; `net` must be in eval mode."""
    previous: tuple[str, nn.Module] = ("", net)
    for name, child in list(net.named_children()):
        if isinstance(child, _NORMS) and isinstance(previous[1], nn.Conv2d | nn.Conv3d):
            net.add_module(previous[0], fuse_conv_bn_eval(previous[1], child))
            net.add_module(name, nn.Identity())
        else:
            fold_batchnorm(child)
        previous = (name, child)
    return net
