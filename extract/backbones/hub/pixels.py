"""The pixel rule of a model in Hugging Face's format, from its processor's JSON file.

The file is read as it is, because the library's own video processors need torchvision.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...decoding.pixels import PixelRule, pixel_rule
from ...errors import ExtractError

# File -> the key inside it that holds the settings, if they do not stand at the top.
_FILES = (
    ("video_preprocessor_config.json", None),
    ("preprocessor_config.json", None),
    ("processor_config.json", "video_processor"),
    ("processor_config.json", "image_processor"),
)
_LARGEST = 1e9  # of mean, std and factors
_WHOLE = 384  # from this size on, nothing is cropped away


def read_pixel_rule(folder: Path, *, size: int | None, resize: str, usual: int | None) -> PixelRule:
    """Mean, std, scale, offset and size from the processor's file in `folder`.

    size: side of a clip, None for the file's own, or `usual` where it names none. A size other than the file's is
    resized to 256/224 of it and cropped, as everywhere. ExtractError in one line.
    """
    name, settings = _settings(folder)
    where = f"{folder / name}"
    if settings.get("do_flip_channel_order", False):
        raise ExtractError(f"{where} asks for channels in the order blue, green, red, and clips are red, green, blue")
    own, resized = _sizes(settings, where)
    own = own or usual
    if (size or own) is None:
        raise ExtractError(f"{where} names no size; pass --size")
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean, std = (_triple(settings.get(key), f"{key} in {where}") for key in ("image_mean", "image_std"))
        if settings.get("include_top", False):  # EfficientNet's divide by std once more
            std = (std[0] ** 2, std[1] ** 2, std[2] ** 2)
    scale, offset = 1.0, 0.0
    if settings.get("do_rescale", True):
        scale = _number(settings.get("rescale_factor", 1 / 255), f"rescale_factor in {where}")
        # ViViT's say `offset: true`: pixels are shifted by 1 after scaling, to [-1, 1] by a factor of 1/127.5.
        offset = -1.0 if settings.get("offset", False) or settings.get("rescale_offset", False) else 0.0
    kept = resized if size in (None, own) and resized and own and resized >= own else None
    return pixel_rule(size or own or 0, resize=resize, mean=mean, std=std, scale=scale, offset=offset, resize_size=kept)


def _settings(folder: Path) -> tuple[str, Mapping[str, Any]]:
    for name, key in _FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ExtractError(f"{path} must be a JSON file, and is not; get it anew") from error
        found = content.get(key) if key and isinstance(content, dict) else content
        if isinstance(found, dict):
            return name, found
    raise ExtractError(
        f"{folder} has no preprocessor_config.json, so mean and std of its pixels are unknown; get that file from the "
        "model's page"
    )


def _sizes(settings: Mapping[str, Any], where: str) -> tuple[int | None, int | None]:
    """(side of the clip, side of the resized frame before the crop), None where the file is silent."""
    resized = _side(settings.get("size"), where) if settings.get("do_resize", True) else None
    if settings.get("do_center_crop", settings.get("crop_size") is not None):
        own = _side(settings.get("crop_size"), where) or resized
    else:
        own = resized
    share = settings.get("crop_pct")
    if resized and resized < _WHOLE and isinstance(share, int | float) and 0.1 <= share < 1:
        resized = int(resized / share)  # ConvNeXt's and PoolFormer's: `size` is what is left after the crop
    return own, resized


def _side(value: Any, where: str) -> int | None:
    """The side of a square, from `224`, {height, width} or {shortest_edge}."""
    if isinstance(value, dict):
        sides = {value[key] for key in ("height", "width", "shortest_edge") if value.get(key) is not None}
        if len(sides) > 1:
            raise ExtractError(f"{where} asks for frames of {value}, and only squares are made; pass --size")
        value = sides.pop() if sides else None
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1 << 14:
        raise ExtractError(f"{where} names a size ({value!r}) that is no number of pixels; pass --size, or mend it")
    return value


def _triple(value: Any, what: str) -> tuple[float, float, float]:
    values = [value] * 3 if isinstance(value, int | float) else value
    if not isinstance(values, list) or len(values) != 3:
        raise ExtractError(f"{what} must be three numbers, one a channel, and is {value!r}")
    red, green, blue = (_number(v, what) for v in values)
    return red, green, blue


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise ExtractError(f"{what} must be a number, and is {value!r}")
    return float(value)
