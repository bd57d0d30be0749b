"""What a run computes: its device, and the spec of the cubes that it makes."""

from collections.abc import Sequence

import torch

from ..cache.console import unknown_name
from ..cache.spec import FeatureSpec
from ..cache.views import flipped_views
from .backbones.base import Backbone
from .backbones.inference import resolve_precision
from .errors import ExtractError
from .sampling import SAMPLING_RULES
from .videos import VideoSet
from .views import check_sampling


def resolve_device(devices: str) -> torch.device:
    """The device of `auto` (the first GPU, else the CPU), `cpu`, `cuda` or `cuda:N`. ExtractError otherwise."""
    if "," in devices:
        raise ExtractError(
            f"devices ({devices}) must be one device in this version; give --devices {devices.split(',')[0]}"
        )
    if devices == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(devices)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ExtractError(f"devices ('{devices}') must be auto, cpu or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ExtractError(f"devices ('{devices}') is not there: this machine has {torch.cuda.device_count()} GPUs")
    return device


def device_name(device: torch.device) -> str:
    """The device as records name it: `cpu`, or `cuda` and the GPU's model."""
    return "cpu" if device.type == "cpu" else f"cuda {torch.cuda.get_device_name(device)}"


def make_spec(
    backbone: Backbone, *, views: Sequence[str], sampling: str, precision: str, device: torch.device
) -> FeatureSpec:
    """The spec of a backbone's cubes. ExtractError or CacheError for what cannot be."""
    if sampling not in SAMPLING_RULES:
        raise ExtractError(unknown_name("sampling rule", sampling, SAMPLING_RULES))
    check_sampling(views, sampling)
    rule = backbone.pixels
    return FeatureSpec(
        backbone=backbone.name,
        revision=backbone.revision,
        weights=backbone.weights_sha256,
        layer=backbone.layer,
        time=backbone.time,
        frames=backbone.frames,
        sampling=sampling,
        resize=rule.resize,
        resize_size=rule.resize_size,
        size=rule.size,
        scaler=rule.scaler,
        scale=rule.scale,
        offset=rule.offset,
        mean=_triple(rule.mean),
        std=_triple(rule.std),
        # Single frames are where bfloat16 convolutions go wrong on CPUs; there, it is not chosen by itself.
        precision=resolve_precision(precision, device, frames=backbone.frames),
        dtype="float16",
        views=tuple(views),
        cube_shape=backbone.cube_shape,
    )


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def check_flip(views: Sequence[str], videos: VideoSet, *, allow_flip: bool) -> None:
    """ExtractError when a view mirrors videos whose class a mirror changes, unless that is allowed."""
    flipped = flipped_views(views)
    if flipped and not videos.flip_keeps_class and not allow_flip:
        raise ExtractError(
            f"view '{flipped[0]}' would change classes: in '{videos.name}' a mirrored video may be of another class "
            "(left and right are labels); drop it from --views, or pass --allow-flip"
        )
