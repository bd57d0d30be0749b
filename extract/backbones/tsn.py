"""TSN: an ImageNet ResNet-50 on each of 8 frames, the paper's frame-level backbone.

L. Wang et al., "Temporal Segment Networks", ECCV 2016; K. He et al., "Deep Residual Learning", CVPR 2016. Cubes are
2048 x 8 x 7 x 7 for methods that align frames; with `time="mean"` they are averaged over the frames to
2048 x 1 x 7 x 7, as MASTAF-{TSN} wants them.
"""

import re
from collections.abc import Mapping
from typing import Any

import transformers
from torch import Tensor

from ..decoding.pixels import pixel_rule
from ..errors import ExtractError
from .about import About
from .base import Backbone
from .hub.files import ModelFolder
from .hub.model import read_config
from .hub.wrap import own_names, wrap
from .huggingface import find_folder, known_facts, origin
from .weights import WeightsFile

MODEL_ID = "microsoft/resnet-50"
FRAMES = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for the hub's and torchvision's weights
ADVICE = (
    f"TSN's weights are {MODEL_ID} of the Hugging Face hub (Apache-2.0), or a file of torchvision's resnet50 "
    "(resnet50-0676ba61.pth or resnet50-11ad3fa6.pth, BSD-3-Clause): pass --weights FILE, or put FILE into the folder "
    "that $MASTAF_WEIGHTS names; offline, `hf download` the model elsewhere and pass --weights DIR"
)
# What the configuration of a ResNet says of its arithmetic.
_NETWORK = (
    "model_type",
    "num_channels",
    "embedding_size",
    "hidden_sizes",
    "depths",
    "layer_type",
    "hidden_act",
    "downsample_in_first_stage",
    "downsample_in_bottleneck",
)
_WEIGHTS = (
    f"[{MODEL_ID}](https://huggingface.co/{MODEL_ID}), or torchvision's `resnet50` ([resnet50-0676ba61.pth]"
    "(https://download.pytorch.org/models/resnet50-0676ba61.pth)): ImageNet-1k"
)
ABOUT = tuple(
    About(
        name=name,
        network="2D ResNet-50, frame by frame (L. Wang et al., K. He et al.)",
        weights=_WEIGHTS,
        licence="Apache-2.0; torchvision's BSD-3-Clause",
        frames=FRAMES,
        size=224,
        cube_shape=(2048, t, 7, 7),
    )
    for name, t in (("tsn", FRAMES), ("tsn --time mean", 1))
)


def load(
    *,
    weights: str | None,
    frames: int | None,
    size: int | None,
    resize: str,
    layer: str | None,
    revision: str | None = None,
    seed: int,
) -> Backbone:
    """ResNet-50, frame by frame. weights: `hub`, a folder, a file in torchvision's format, or `random`. Stages:
    `embed` (the stem), `stage1` to `stage4`. See `registry.load_backbone`."""
    folder, file = find_folder(MODEL_ID, weights, revision, advice=ADVICE, known=True)
    if folder.source and file is None:
        _check_config(folder)
    return wrap(
        name="tsn",
        config=transformers.ResNetConfig(),
        pixels=pixel_rule(size or 224, resize=resize, mean=MEAN, std=STD),
        frames=frames or FRAMES,
        **origin(weights, folder, file, seed),
        facts=lambda found: _facts(folder, found),
        layer=layer,
        seed=seed,
        translate=from_torchvision,
        advice=ADVICE,
    )


def _check_config(folder: ModelFolder) -> None:
    """ExtractError for another network than ResNet-50, of which some have weights of the same shapes."""
    found, wanted = read_config(folder.path, "tsn").to_dict(), transformers.ResNetConfig().to_dict()
    wrong = [field for field in _NETWORK if found.get(field) != wanted[field]]
    if wrong:
        raise ExtractError(
            f"weights ({folder.path}) are of no ResNet-50: its config.json has {wrong[0]} {found.get(wrong[0])!r}, not "
            f"{wanted[wrong[0]]!r}; use --backbone hf:MODEL_ID for another network; {ADVICE}"
        )


def from_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Entries of torchvision's `resnet50`, without its classifier, under the names of transformers' ResNet; others
    stay as they are."""
    return {
        _translated(name): tensor for name, tensor in own_names(tensors).items() if name not in ("fc.weight", "fc.bias")
    }


def _translated(name: str) -> str:
    kinds = {"conv": "convolution", "bn": "normalization"}
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"embedder.embedder.{kinds[found[1]]}.{found[2]}"
    if found := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(\w+)", name):
        stage, block, kind, number, rest = found.groups()
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(number) - 1}.{kinds[kind]}.{rest}"
    if found := re.fullmatch(r"layer(\d)\.(\d+)\.downsample\.([01])\.(\w+)", name):
        stage, block, number, rest = found.groups()
        kind = ("convolution", "normalization")[int(number)]
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.shortcut.{kind}.{rest}"
    return name


def _facts(folder: ModelFolder, file: WeightsFile | None) -> Mapping[str, Any]:
    """What the weights saw: of a file by its classifier, as no card lies beside it."""
    if file is None or "facts" in file.provenance:
        return known_facts(folder, transformers.ResNetConfig(), file)
    classifier = file.tensors.get("fc.weight")
    if classifier is None:
        return {"pretraining": ["unknown (no classifier in the file)"], "licence": "unknown"}
    data = "ImageNet-1k" if len(classifier) == 1000 else f"unknown ({len(classifier)} classes)"
    return {"pretraining": [data], "pretraining_classes": len(classifier), "licence": "see where the file is from"}
