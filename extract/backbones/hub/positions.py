"""Video encoders at another number of frames or another size than their own: their position tables are interpolated.

The library resizes tables in space alone, and not for every model; here it is done once, when weights are loaded.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ExtractError

Grid = tuple[int, int, int]

# model_type -> name of its frames, name of its size ('' where that is fixed), and its tables: name -> tokens in front
# and the axes that the table runs over. VideoMAE's table is a formula over the token's number, so that frames may be
# left out or added; V-JEPA 2 has rotary positions and no table.
_FAMILIES: dict[str, tuple[str, str, dict[str, tuple[int, str]]]] = {
    "vivit": ("num_frames", "image_size", {"embeddings.position_embeddings": (1, "thw")}),
    "timesformer": (
        "num_frames",
        "image_size",
        {"embeddings.position_embeddings": (1, "hw"), "embeddings.time_embeddings": (0, "t")},
    ),
    "videomae": ("num_frames", "", {}),
    "vjepa2": ("frames_per_clip", "crop_size", {}),
}
# Encoders of images that fit their positions to the picture by themselves.
_ANY_SIZE = ("dinov2", "dinov2_with_registers", "dinov3_vit")


def refit_config(config: Any, *, frames: int, size: int, name: str) -> Any:
    """The configuration for clips of frames x size x size; the same object where nothing changes. ExtractError for a
    video encoder that cannot be refitted."""
    family = _FAMILIES.get(config.model_type)
    if family is None:
        return config
    frames_field, size_field, _ = family
    fitted = copy.deepcopy(config)
    setattr(fitted, frames_field, frames)
    if size_field:
        setattr(fitted, size_field, size)
    elif size != config.image_size:
        raise ExtractError(f"size ({size}) must be {config.image_size} for {name}: its positions cannot be resized")
    return config if fitted.to_dict() == config.to_dict() else fitted


def refit_state(state: Mapping[str, Tensor], config: Any, fitted: Any) -> dict[str, Tensor]:
    """A state dict made for `config`, with its position tables for `fitted`."""
    _, _, tables = _FAMILIES[config.model_type]
    old, new = grid_of(config), grid_of(fitted)
    resized = dict(state)
    for name, (prefix, axes) in tables.items():
        before, after = _along(old, axes), _along(new, axes)
        resized[name] = resize_table(state[name], prefix=prefix, old=before, new=after)
    return resized


def _along(grid: Grid, axes: str) -> Grid:
    """The grid of a table that runs over some axes alone."""
    t, h, w = (side if axis in axes else 1 for axis, side in zip("thw", grid, strict=True))
    return t, h, w


def resize_table(table: Tensor, *, prefix: int, old: Grid, new: Grid) -> Tensor:
    """Positions [1, prefix + t * h * w, c] of grid `old` (t, h, w) -> those of `new`.

    Linear in time (a longer tubelet gets the mean position of the time that it covers, where numbers divide), bicubic
    in space, as the library resizes images' tables. The tokens in front stay.
    """
    front, places = table[:, :prefix], table[:, prefix:]  # [1, prefix, c], [1, L, c]
    grid = places.unflatten(1, old).permute(0, 4, 1, 2, 3)  # [1, c, t, h, w]
    if old[0] != new[0]:
        flat = grid.flatten(3)  # [1, c, t, h * w]
        flat = F.interpolate(flat, size=(new[0], flat.shape[3]), mode="bilinear", align_corners=False)
        grid = flat.unflatten(3, old[1:])  # [1, c, t', h, w]
    if old[1:] != new[1:]:
        planes = grid.transpose(1, 2).flatten(0, 1)  # [t', c, h, w]
        planes = F.interpolate(planes, size=new[1:], mode="bicubic", align_corners=False)  # [t', c, h', w']
        grid = planes.unsqueeze(0).transpose(1, 2)  # [1, c, t', h', w']
    return torch.cat([front, grid.permute(0, 2, 3, 4, 1).flatten(1, 3)], dim=1)  # [1, prefix + L', c]


def grid_of(config: Any) -> Grid:
    """(t, h, w) of a video encoder's tokens, of a family that is known here."""
    frames_field, size_field, _ = _FAMILIES[config.model_type]
    tubelet = getattr(config, "tubelet_size", 1)
    time, patch = (tubelet[0], tubelet[1]) if isinstance(tubelet, list | tuple) else (tubelet, config.patch_size)
    side = getattr(config, size_field or "image_size") // patch
    return getattr(config, frames_field) // time, side, side


def check_size(
    model: nn.Module, config: Any, *, size: int, usual: int | None, options: Mapping[str, Any], name: str
) -> None:
    """ExtractError for a size at which an encoder of tokens may put its positions anywhere."""
    known = "interpolate_pos_encoding" in options or config.model_type in (*_ANY_SIZE, *_FAMILIES)
    if usual not in (None, size) and not known:
        raise ExtractError(
            f"size ({size}) must be {usual} for {name}: a {type(model).__name__} is not known to fit its positions to "
            "other sizes"
        )


def check_frames(frames: int, config: Any, usual: int | None, name: str) -> None:
    """ExtractError for a number of frames at which a video encoder may put its positions anywhere, or which its
    tubelets do not divide."""
    if usual not in (None, frames) and config.model_type not in _FAMILIES:
        raise ExtractError(f"frames ({frames}) must be {usual} for {name}: its positions are for so many")
    tubelet = getattr(config, "tubelet_size", 1)
    time = tubelet[0] if isinstance(tubelet, list | tuple) and tubelet else tubelet
    if usual is not None and isinstance(time, int) and frames % time:
        raise ExtractError(f"frames ({frames}) must be a multiple of {time} for {name}, whose tubelets are so long")
