"""A model of the transformers library becomes a `HubNet`: its blocks found, its tokens' places proved, its cubes'
shapes and used parameters seen in one pass over noise."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ExtractError
from ..base import Shape
from .graph import Owners, freeze_unused, leaves_of, owners_of, used_state
from .layout import TokenLayout, find_layout
from .model import FAULTS, first_line
from .net import EMBED, LAST, HubNet, without_tensors
from .positions import check_size

_FRAMES = ("num_frames", "frames_per_clip")
_SIZES = ("image_size", "crop_size")


def usual_frames(config: Any) -> int | None:
    """Frames of a clip by the configuration of a video encoder; None for an encoder of images."""
    for name in _FRAMES:
        if isinstance(getattr(config, name, None), int):
            return getattr(config, name)
    return None


def usual_size(config: Any) -> int | None:
    """Side of the input by the configuration, None where it names none."""
    for name in _SIZES:
        value = getattr(config, name, None)
        value = value[0] if isinstance(value, list | tuple) and len(set(value)) == 1 else value
        if isinstance(value, int):
            return value
    return None


def build_net(
    model: nn.Module, config: Any, *, frames: int, size: int, usual: int | None, name: str
) -> tuple[HubNet, dict[str, Tensor]]:
    """The staged network for clips of frames x size x size, and the state on which its cubes depend.

    usual: the size that the weights were made for, None for any. ExtractError, with what was seen, where the model's
    outputs cannot be cubes.
    """
    video = usual_frames(config) is not None
    net = HubNet(
        model,
        _find_blocks(model, config, name),
        argument=str(model.main_input_name),
        video=video,
        options=_options(model, resized=usual not in (None, size)),
        frames=frames,
        size=size,
    )
    clip = torch.randn(1, 3, frames, size, size, generator=torch.Generator().manual_seed(0))
    if not hasattr(config, "depths") and (hasattr(config, "patch_size") or hasattr(config, "tubelet_size")):
        _grid(net, _patch(config, name), name)  # a pyramid may pad, a column cannot
    raw, templates = _try(net, clip, name)
    if raw[EMBED].dim() == 3:
        check_size(model, config, size=size, usual=usual, options=net.options, name=name)
    layout = _layout(net, raw, config, name)
    shapes, outputs = _shapes(net, raw, layout, name)
    owners, used = _owners(model, outputs, net)
    net.settle(shapes=shapes, layout=layout, owners=owners, templates=templates)
    freeze_unused(model, used)
    return net, used_state(model, used)


def _find_blocks(model: nn.Module, config: Any, name: str) -> dict[str, nn.Module]:
    """The blocks of the encoder, by name: `block1` .. of a column, `stage1` .. of a pyramid."""
    pyramid = hasattr(config, "depths")
    counts = {len(config.depths)} if pyramid else {getattr(config, "num_hidden_layers", -1)}
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module)]
    fitting = [blocks for blocks in lists if len(blocks) in counts] or lists
    if not fitting:
        raise ExtractError(f"{name} cannot be used: no list of blocks was found in a {type(model).__name__}")
    word = "stage" if pyramid else "block"
    return {f"{word}{number}": block for number, block in enumerate(fitting[0], 1)}


def _options(model: nn.Module, *, resized: bool) -> dict[str, Any]:
    """Arguments beside the pixels, where the model takes them."""
    known = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {"return_dict": True}
    if "skip_predictor" in known:
        options["skip_predictor"] = True  # V-JEPA 2 predicts masked places behind its encoder
    if "interpolate_pos_encoding" in known and resized:
        options["interpolate_pos_encoding"] = True
    return options


def _try(net: HubNet, clip: Tensor, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What every stage gives for one clip, and what the blocks return."""
    templates: dict[str, Any] = {}
    names = list(net.blocks)
    with ExitStack() as stack:
        for block in names:
            hook = net.block(block).register_forward_hook(_keeping(templates, block))
            stack.callback(hook.remove)
        try:
            with torch.enable_grad():
                raw = net.run(clip, [EMBED, *names, LAST])
        except FAULTS as error:
            raise ExtractError(
                f"{name} does not take clips of {net.frames} x {net.size} x {net.size} as an encoder of "
                f"{'videos' if net.video else 'images'} does: {first_line(error)}; try its own --frames and --size"
            ) from error
    return raw, templates


def _keeping(templates: dict[str, Any], name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(_block: nn.Module, _args: Any, output: Any) -> None:
        templates[name] = without_tensors(output)

    return hook


def _layout(net: HubNet, raw: Mapping[str, Tensor], config: Any, name: str) -> TokenLayout | None:
    """The places of the tokens that enter the first block; None where that is a map."""
    if raw[EMBED].dim() == 4:
        return None
    patch = _patch(config, name)
    time, high, wide = _grid(net, patch, name)

    def embed(clips: Tensor) -> Tensor:
        return net.run(clips, [EMBED])[EMBED]  # [b, n, c]; for images, clips are of one frame

    return find_layout(embed, grid=(time, high, wide), patch=patch, what=name)


def _grid(net: HubNet, patch: tuple[int, int, int], name: str) -> tuple[int, int, int]:
    """(t, h, w) of the tubelets of a clip, or of one image. ExtractError unless they divide it."""
    clip = (net.frames if net.video else 1, net.size, net.size)
    for axis, pixels, step in zip(("frames", "size", "size"), clip, patch, strict=True):
        if pixels % step:
            raise ExtractError(f"{axis} ({pixels}) must be a multiple of {step} for {name}, whose tubelets are {patch}")
    time, high, wide = (pixels // step for pixels, step in zip(clip, patch, strict=True))
    return time, high, wide


def _patch(config: Any, name: str) -> tuple[int, int, int]:
    """Pixels of a tubelet (frames, height, width) by the configuration."""
    tubelet, patch = getattr(config, "tubelet_size", 1), getattr(config, "patch_size", None)
    if isinstance(tubelet, list | tuple) and len(tubelet) == 3:  # ViViT
        time, high, wide = tubelet
    else:
        time = tubelet
        high, wide = patch if isinstance(patch, list | tuple) and len(patch) == 2 else (patch, patch)
    if not (isinstance(time, int) and isinstance(high, int) and isinstance(wide, int) and min(time, high, wide) > 0):
        raise ExtractError(
            f"{name} gives tokens, but its configuration has no patch_size by which they could become a cube "
            f"(patch_size {patch}, tubelet_size {tubelet})"
        )
    return time, high, wide


def _shapes(
    net: HubNet, raw: Mapping[str, Tensor], layout: TokenLayout | None, name: str
) -> tuple[dict[str, Shape], dict[str, Tensor]]:
    """Stage -> (c, t, h, w), and what it gave, for the stages whose output is a cube."""
    shapes: dict[str, Shape] = {}
    refused = ""
    last_block = list(net.blocks)[-1]
    for stage, value in raw.items():
        if stage == LAST and value.shape == raw[last_block].shape and torch.equal(value, raw[last_block]):
            continue  # nothing stands behind the last block
        try:
            shapes[stage] = net.shape_of(value, stage, layout)
        except ExtractError as error:
            # Some models add a pooled token or drop places at the very end; their last block is still a cube.
            if stage != LAST:
                raise ExtractError(f"{name} cannot give cubes: {error}") from error
            refused = str(error)
    if last_block not in shapes:
        raise ExtractError(f"{name} cannot give cubes: {refused}")
    maps = [tuple(value.shape) for value in raw.values() if value.dim() == 4]
    if maps and all(c == h for _, c, h, _ in maps):
        raise ExtractError(f"{name} cannot give cubes: which axis of its maps {maps[-1]} is which cannot be told")
    return shapes, {stage: raw[stage] for stage in shapes}


def _owners(model: nn.Module, outputs: Mapping[str, Tensor], net: HubNet) -> tuple[dict[str, Owners], set[int]]:
    """Stage -> what holds its parameters, and the ids of all parameters that the last stage's cube depends on."""
    used = leaves_of(list(outputs.values())[-1])
    left, parts = set(used), {}
    for stage in outputs:
        mine = leaves_of(outputs[EMBED]) if stage == EMBED else left
        if stage in net.blocks:
            mine = {id(parameter) for parameter in net.block(stage).parameters()}
        mine = mine & left
        parts[stage] = mine
        left -= mine
    if left:  # what blocks share and the model holds
        parts[EMBED] |= left
    return {stage: owners_of(model, mine, used) for stage, mine in parts.items()}, used
