"""The fast form of a backbone, for extraction alone: BatchNorm folded, channels last, at a chosen precision."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
# Shares of a cube's norm. A wrong folding is far off.
FOLDING_ERROR = 0.01  # in float32, whose products a GPU rounds
ROUNDING_ERROR = 0.02  # in a low precision, folding included; bfloat16 alone is off by 0.005 to 0.011 here
WORST_ERROR = 0.1  # of a precision that is used
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, eq=False)
class Run:
    """A fast function, uint8 clips [b, frames, size, size, 3] -> float32 cubes [b, *cube_shape] of each backbone.

    folded: whether BatchNorms are folded into convolutions, which was found to be right.
    """

    forward: Callable[[Tensor], list[Tensor]]
    folded: bool

    def __call__(self, clips: Tensor) -> list[Tensor]:
        return self.forward(clips)


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


def reference(backbones: Sequence["Backbone"], device: torch.device | str) -> list[Tensor]:
    """Cubes [b, c, t, h, w] of `random_clips` at each backbone, layers of one network, by the plain float32 network.

    ExtractError where they are not what the backbone declares. Slow: whoever needs them twice hands them on.
    """
    first = _first_of_one_network(backbones)
    there = torch.device(device).type == "cpu" and not first.module.training
    net = first.module if there else copy.deepcopy(first.module).eval().to(device)
    layers = [backbone.layer for backbone in backbones]

    def run(clips: Tensor) -> list[Tensor]:
        found = net.outputs(first.normalise(clips.to(device)), layers)
        return [backbone.pool(found[backbone.layer]) for backbone in backbones]  # of [b, c, t, h, w]

    return [cubes.float().cpu() for cubes in check_cubes(backbones, run)]


def prepare(
    backbones: Sequence["Backbone"],
    *,
    precision: str,
    device: torch.device | str,
    exact: Sequence[Tensor] | None = None,
    folded: bool | None = None,
) -> Run:
    """The fast form of backbones: one, or several layers of one network (see `Backbone.at`), computed in one pass.

    exact: what `reference` gave for them, if it was asked before; folded: what an earlier call found for this network
    and precision on a machine of this kind, where that need not be found out again (a second, for a small network).
    ExtractError where the machine gets this precision wrong, and where a backbone's cubes are not what it declares.
    """
    first = _first_of_one_network(backbones)
    precision = resolve_precision(precision, device, frames=first.frames)
    if folded is not None:
        return _runner(backbones, PRECISIONS[precision], device, fold=folded)
    exact = reference(backbones, device) if exact is None else exact
    dtype, fold = PRECISIONS[precision], any(isinstance(part, _NORMS) for part in first.module.modules())
    if fold:
        run, error = _folded(backbones, exact, dtype, device)
        if run is not None and error <= (FOLDING_ERROR if precision == "fp32" else ROUNDING_ERROR):
            return run
        # Where a low precision hides whether folding is right, float32 shows it.
        fold = precision != "fp32" and _folded(backbones, exact, torch.float32, device)[1] <= FOLDING_ERROR
    run = _runner(backbones, dtype, device, fold=fold)
    if precision != "fp32":
        # oneDNN's bfloat16 convolutions over a single frame, for one, are wrong.
        error = _worst(run(random_clips(first)), exact)
        if not error <= WORST_ERROR:
            raise ExtractError(
                f"precision ({precision}) gives wrong cubes of {first.name} on this machine: {100 * error:.0f} % off "
                f"fp32 on random clips of {first.frames} frames; use --precision fp32"
            )
    return run


def _first_of_one_network(backbones: Sequence["Backbone"]) -> "Backbone":
    first = backbones[0]
    if any(other.module is not first.module or other.pixels != first.pixels for other in backbones):
        raise ExtractError("layers computed in one pass must be of one network; load it once and use Backbone.at")
    return first


def _folded(
    backbones: Sequence["Backbone"], exact: Sequence[Tensor], dtype: torch.dtype, device: torch.device | str
) -> tuple[Run | None, float]:
    """The folded network and its error: a network may apply a BatchNorm elsewhere than where it is registered."""
    try:
        run = _runner(backbones, dtype, device, fold=True)
        return run, _worst(run(random_clips(backbones[0])), exact)
    except (RuntimeError, ValueError, TypeError):  # of other widths
        return None, math.inf


def _worst(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The largest error of cubes [b, c, t, h, w], as a share of their norm; NaN where there is one."""
    pairs = zip(found, exact, strict=True)
    errors = torch.stack([(one - other).norm() / other.norm().clamp_min(1e-6) for one, other in pairs])  # [layers]
    return float(errors.max())


def _runner(backbones: Sequence["Backbone"], dtype: torch.dtype, device: torch.device | str, *, fold: bool) -> Run:
    first, layers = backbones[0], [backbone.layer for backbone in backbones]
    net = copy.deepcopy(first.module).eval().requires_grad_(False)
    net = fold_batchnorm(net) if fold else net
    net = channels_last(net.to(device=device, dtype=dtype))

    @torch.inference_mode()
    def run(clips: Tensor) -> list[Tensor]:
        x = first.normalise(clips.to(device, non_blocking=True)).to(dtype)  # [b, 3, t, h, w]
        found = net.outputs(x, layers)
        return [b.pool(found[b.layer].float()).contiguous().cpu() for b in backbones]  # of [b, c, t, h, w]

    return Run(run, fold)


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
