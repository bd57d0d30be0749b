"""R3D-50: the 3D ResNet-50 of K. Hara et al., with the checkpoints of their 3D-ResNets-PyTorch.

"Would Mega-scale Datasets Further Enhance Spatiotemporal 3D CNNs?" (H. Kataoka et al., 2020) pretrains it on
Kinetics-700 (K), Moments in Time (M), STAIR Actions (S) and their unions; the file's number of classes says which.
"""

from typing import Any

from ..decoding.pixels import KINETICS_MEAN, KINETICS_STD, pixel_rule
from .about import About
from .base import Backbone
from .resnet3d import ResNet3DPlan
from .resnet3d_load import load_resnet3d
from .weights import WeightsFile

PLAN = ResNet3DPlan(
    bottleneck=True,
    blocks=(3, 4, 6, 3),
    widths=(64, 128, 256, 512),
    strides=(1, 2, 2, 2),
    stem_width=64,
    stem_kernel=(7, 7, 7),
    stem_stride=(1, 2, 2),
    stem_pool=True,
)
FILE = "r3d50_KMS_200ep.pth"
ADVICE = (
    f"R3D-50's weights are {FILE} of https://github.com/kenshohara/3D-ResNets-PyTorch (MIT; its README links the "
    f"download): pass --weights FILE, or put {FILE} into a folder that $MASTAF_WEIGHTS names"
)
ABOUT = (
    About(
        name="r3d",
        network="3D ResNet-50 (K. Hara et al.)",
        weights=f"`{FILE}` of [3D-ResNets-PyTorch](https://github.com/kenshohara/3D-ResNets-PyTorch): Kinetics-700, "
        "Moments in Time, STAIR Actions; its other files of R3D-50 load too",
        licence="MIT",
        frames=16,
        size=224,
        cube_shape=(2048, 1, 7, 7),
    ),
)
_DATA = {"K": ("Kinetics-700", 700), "M": ("Moments in Time", 339), "S": ("STAIR Actions", 100)}
_VARIANTS = ("K", "M", "S", "KM", "KS", "MS", "KMS")


def load(
    *, weights: str | None, frames: int | None, size: int | None, resize: str, layer: str | None, seed: int
) -> Backbone:
    """R3D-50 with cubes 2048 x ceil(frames / 16) x ceil(size / 32) x ceil(size / 32). See `registry.load_backbone`."""
    return load_resnet3d(
        name="r3d",
        plan=PLAN,
        # The statistics by which all checkpoints of 3D-ResNets-PyTorch were trained.
        pixels=pixel_rule(size or 224, resize=resize, mean=KINETICS_MEAN, std=KINETICS_STD),
        frames=frames or 16,
        layer=layer,
        weights=weights or FILE,
        seed=seed,
        advice=ADVICE,
        facts=_facts,
    )


def _facts(file: WeightsFile) -> dict[str, Any]:
    """What a checkpoint saw, read from its classifier."""
    if "facts" in file.provenance:
        return dict(file.provenance["facts"])
    fc = file.tensors.get("fc.weight")
    if fc is None:
        return {"pretraining": ["unknown (no classifier in the file)"], "licence": "unknown"}
    n_classes = len(fc)
    for variant in _VARIANTS:
        if n_classes == sum(_DATA[letter][1] for letter in variant):
            data = [_DATA[letter][0] for letter in variant]
            return {"pretraining": data, "pretraining_classes": n_classes, "variant": variant, "licence": "MIT"}
    return {"pretraining": [f"unknown ({n_classes} classes)"], "pretraining_classes": n_classes, "licence": "unknown"}
