"""`r3d-tiny`: a small R3D for the embedded data set, whose weights come with the package.

0.9 million parameters, clips of 16 x 64 x 64, cubes 128 x 4 x 4 x 4. How the weights were made: docs/r3d-tiny.md.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from ..decoding.pixels import pixel_rule
from .about import About
from .base import Backbone
from .resnet3d import ResNet3DPlan
from .resnet3d_load import load_resnet3d
from .weights import WeightsFile

PLAN = ResNet3DPlan(
    bottleneck=False,
    blocks=(1, 1, 1, 1),
    widths=(16, 32, 64, 128),
    strides=(1, 1, 2, 2),
    stem_width=16,
    stem_kernel=(3, 7, 7),
    stem_stride=(1, 4, 4),
    stem_pool=False,
)
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
SHIPPED = Path(__file__).with_name("r3d_tiny.safetensors")

ABOUT = (
    About(
        name="r3d-tiny",
        network="small 3D ResNet of this project",
        weights="come with the package: the 12 train motions of `motion` ([how](r3d-tiny.md))",
        licence="Apache-2.0",
        frames=16,
        size=64,
        cube_shape=(128, 4, 4, 4),
    ),
)


def load(
    *, weights: str | None, frames: int | None, size: int | None, resize: str, layer: str | None, seed: int
) -> Backbone:
    """The small R3D. See `registry.load_backbone`."""
    return load_resnet3d(
        name="r3d-tiny",
        plan=PLAN,
        pixels=pixel_rule(size or 64, resize=resize, mean=MEAN, std=STD),
        frames=frames or 16,
        layer=layer,
        weights=weights or str(SHIPPED),
        seed=seed,
        advice="leave --weights out for those that come with the package",
        facts=_facts,
        adjust=_motion_stem,
    )


def _motion_stem(state: dict[str, Tensor]) -> None:
    """Random stem filters begin without a mean over time: they see change alone. Without this the small network
    learns appearance first, and few steps of training never take it to motion."""
    stem = state["conv1.weight"]  # [16, 3, t, h, w]
    stem -= stem.mean(dim=2, keepdim=True)


def _facts(file: WeightsFile) -> dict[str, Any]:
    facts = file.provenance.get("facts", {"pretraining": ["unknown"], "licence": "unknown"})
    return {**facts, "licence": "Apache-2.0"} if file.path == SHIPPED else dict(facts)
