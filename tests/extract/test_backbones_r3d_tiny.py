"""The weights that come with the package: they load by default, say what they saw, and know motion, not looks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.r3d_tiny import SHIPPED
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.motion import MOTION_CLASSES, render_motion
from mastaf.extract.decoding.decode import decode_clip
from safetensors import safe_open

PER_CLASS = 10


@pytest.fixture(scope="module")
def shipped() -> Backbone:
    return load_backbone("r3d-tiny")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """New clips: another seed than that of the clips the weights were trained on."""
    root = tmp_path_factory.mktemp("tiny") / "motion"
    render_motion(root, clips_per_class={"train": 0, "val": PER_CLASS, "test": 0}, seed=1)
    return root


@pytest.fixture(scope="module")
def clips(shipped, root) -> dict[str, torch.Tensor]:
    """The val clips by sampling rule: uint8 [classes * clips, frames, size, size, 3], ordered by class."""
    paths = sorted((root / "val").rglob("*.mp4"))
    rule = shipped.pixels
    return {
        sampling: torch.from_numpy(
            np.stack([decode_clip(p, frames=16, rule=rule, sampling=sampling, key=p.name).pixels for p in paths])
        )
        for sampling in ("even", "middle")
    }


def pooled(backbone: Backbone, clips: torch.Tensor, *, precision: str = "fp32") -> torch.Tensor:
    """Unit pooled features [classes, clips, c] of clips [classes * clips, frames, size, size, 3]."""
    run = backbone.prepare_for_inference(precision, "cpu")
    vectors = torch.cat([run(part).mean(dim=(2, 3, 4)) for part in clips.split(PER_CLASS)])  # [classes * clips, c]
    return torch.nn.functional.normalize(vectors.unflatten(0, (-1, PER_CLASS)), dim=2)  # [classes, clips, c]


def accuracy(features: torch.Tensor) -> tuple[float, float]:
    """Nearest class mean by cosine, the clip itself left out: accuracy, and one standard error at chance."""
    n_classes, clips, _ = features.shape
    right = 0
    for label in range(n_classes):
        for clip in range(clips):
            means = features.mean(dim=1)  # [classes, c]
            means[label] = (features[label].sum(dim=0) - features[label, clip]) / (clips - 1)
            scores = torch.nn.functional.normalize(means, dim=1) @ features[label, clip]  # [classes]
            right += int(scores.argmax() == label)
    total, chance = n_classes * clips, 1 / n_classes
    return right / total, (chance * (1 - chance) / total) ** 0.5


def test_they_load_by_default_and_say_where_they_are_from(shipped):
    assert shipped.weights_source == "r3d_tiny.safetensors, included"
    assert shipped.cube_shape == (128, 4, 4, 4)
    assert sum(p.numel() for p in shipped.module.parameters()) < 1_000_000
    assert shipped.facts["licence"] == "Apache-2.0"
    (seen,) = shipped.facts["classes_seen"]
    assert seen["dataset"] == "motion"
    assert seen["classes"] == sorted(MOTION_CLASSES["train"])
    assert set(seen["classes"]).isdisjoint(MOTION_CLASSES["val"] + MOTION_CLASSES["test"])


def test_the_file_is_small_and_half_precision():
    assert SHIPPED.stat().st_size < 2_200_000
    with safe_open(SHIPPED, framework="pt") as file:
        assert file.get_tensor("conv1.weight").dtype == torch.float16


def test_new_motions_are_told_apart_by_motion_alone(shipped, clips):
    known, error = accuracy(pooled(shipped, clips["even"]))
    frozen, _ = accuracy(pooled(shipped, clips["middle"]))
    chance = 1 / len(MOTION_CLASSES["val"])
    assert known > chance + 10 * error
    assert abs(frozen - chance) < 4 * error, "a frozen frame must tell nothing"


def test_random_weights_are_far_behind(shipped, clips):
    random = load_backbone("r3d-tiny", weights="random")
    assert accuracy(pooled(shipped, clips["even"]))[0] > accuracy(pooled(random, clips["even"]))[0] + 0.15


def test_bfloat16_agrees_on_real_clips(shipped, clips):
    plain, fast = (pooled(shipped, clips["even"], precision=precision) for precision in ("fp32", "bf16"))
    assert (plain * fast).sum(dim=2).min() >= 0.999
