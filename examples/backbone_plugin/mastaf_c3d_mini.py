"""A backbone from outside of mastaf: a small C3D, three 3D convolutions."""

from collections import OrderedDict

from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.wrap import wrap_module
from mastaf.extract.decoding.pixels import pixel_rule
from torch import nn


def build() -> nn.Module:
    """Clips [b, 3, t, h, w] -> cubes [b, 64, t / 4, h / 16, w / 16], in three named stages."""
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv3d(3, 16, 3, (1, 4, 4), 1), nn.ReLU()),
            middle=nn.Sequential(nn.Conv3d(16, 32, 3, 2, 1), nn.ReLU()),
            last=nn.Sequential(nn.Conv3d(32, 64, 3, 2, 1), nn.ReLU()),
        )
    )


def load(
    *, weights: str | None, frames: int | None, size: int | None, resize: str, layer: str | None, seed: int
) -> Backbone:
    """What the entry point names; None is for this backbone's own."""
    return wrap_module(
        name="c3d-mini",
        build=build,
        pixels=pixel_rule(size or 64, resize=resize, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        frames=frames or 8,
        layer=layer,
        weights=weights or "c3d_mini.safetensors",
        seed=seed,
        advice="this example has no trained weights: pass --weights random, or a file from `mastaf finetune`",
    )
