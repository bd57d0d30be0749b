"""Fine-tuning on episodes: the steps by hand, what comes out, and that cubes of a middle stage train as videos do."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.errors import SpecMismatchError
from mastaf.cache.store import open_store
from mastaf.extract.backbones import inference
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.run import extract
from mastaf.fewshot.checkpoint import load_run
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate
from mastaf.fewshot.methods.mastaf import MASTAF
from mastaf.pipelines.finetuning import running
from mastaf.pipelines.finetuning.finetune import finetune

TRAIN, VAL, TEST = ("blink", "grow", "slide_right"), ("pulse", "diag_dr"), ("rock", "chase")
FRONT = ("stem", "layer1", "layer2", "layer3")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(small_motion, tmp_path_factory) -> Path:
    """Three train, two val and two test classes of four videos; the test videos cannot be read."""
    root = tmp_path_factory.mktemp("episodes") / "videos"
    for split, names in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        for name in names:
            shutil.copytree(small_motion / split / name, root / split / name)
            for extra in sorted((root / split / name).iterdir())[4:]:
                extra.unlink()
    for path in (root / "test").rglob("*.mp4"):
        path.write_text("not a video")
    return root


def tune(root: Path, out: Path, **options: Any) -> dict[str, Any]:
    small = {"size": 32, "way": 2, "train_episodes": 6, "batch": 2, "precision": "fp32", "device": "cpu"}
    small |= {"val_episodes": 20, "val_every": 2, "augmentations": ()}
    return finetune(recipe="episodic", dataset="folder", root=root, out=out, **(small | options))


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path, **how: Any) -> dict[str, torch.Tensor]:
    return load_backbone("r3d-tiny", weights=str(out / "backbone.safetensors"), size=32, **how).module.state_dict()


def by_hand(root: Path, *, updates: int, batch: int, lr: float, head_lr: float) -> tuple[Backbone, MASTAF]:
    """The same training, an episode at a time, by the formula of gradient descent."""
    base = load_backbone("r3d-tiny", size=32)
    torch.manual_seed(0)
    head = MASTAF.build(cube_shape=base.cube_shape, n_train_classes=len(TRAIN))
    paths = [path for name in TRAIN for path in sorted((root / "train" / name).iterdir())]
    clips = torch.from_numpy(np.stack([decode_clip(path, frames=16, rule=base.pixels).pixels for path in paths]))
    keys, classes = [f"train/{p.parent.name}/{p.name}" for p in paths], [p.parent.name for p in paths]
    sampler = EpisodeSampler(keys=keys, classes=classes, split="train", way=2, shot=1)
    base.module.train(), head.train()
    for update in range(updates):
        both = [*((p, lr) for p in base.module.parameters()), *((p, head_lr) for p in head.parameters())]
        total = [torch.zeros_like(p) for p, _ in both]
        for number in range(update * batch, (update + 1) * batch):
            rows = sampler.rows(number, 1)
            used = [*rows.support[0, :, 0], rows.query[0, 0]]
            cubes = base.forward(clips[used])  # [3, c, t, h, w]
            labels, ids = torch.from_numpy(rows.labels), torch.tensor(rows.classes)
            loss = head.loss(Episode(cubes[None, :2, None], cubes[None, 2:], labels, ids))
            grads = torch.autograd.grad(loss, [p for p, _ in both], allow_unused=True)
            total = [t if g is None else t + g / batch for t, g in zip(total, grads, strict=True)]
        with torch.no_grad():
            for (parameter, rate), gradient in zip(both, total, strict=True):
                parameter -= rate * gradient
    return base, head


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **({"rtol": 1e-4, "atol": 1e-6} | tolerance), msg=name)


def test_its_steps_are_those_by_hand(root, tmp_path):
    how = {"lr": 0.004, "head_lr": 0.02}
    summary = tune(root, tmp_path / "run", train_episodes=4, select_on="none", val_episodes=None, val_every=None, **how)
    base, head = by_hand(root, updates=2, batch=2, **how)
    close(weights(tmp_path / "run"), base.module.state_dict())
    run = load_run(tmp_path / "run/head", _store(root, tmp_path / "cubes.zarr", summary["weights"]))
    close(run.method.state_dict(), head.state_dict())


def _store(root: Path, path: Path, weights: str | None, layer: str | None = None, **options: Any) -> Any:
    """Cubes of the videos; those that cannot be read are failed rows."""
    base = load_backbone("r3d-tiny", weights=weights, size=32, layer=layer)
    videos = find_dataset("folder", root=root, split_files=None, seed=0)
    extract(videos, base, out=path, precision="fp32", device="cpu", threads=1, progress=False, **options)
    return open_store(path)


def test_what_comes_out_goes_on_as_cubes(root, tmp_path):
    """Weights for extraction, a head for evaluation; the test videos, which are broken, were not looked at."""
    before = torch.random.get_rng_state()
    summary = tune(root, tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert summary["failures"] == []
    assert summary["result"]["val_accuracy"] == max(line["val_accuracy"] for line in lines(tmp_path / "run"))
    assert summary["base_weights"] == load_backbone("r3d-tiny", size=32).weights_sha256 != summary["weights_sha256"]
    assert summary["facts"]["classes_seen"][-1]["classes"] == list(TRAIN)
    assert summary["versions"]["mastaf"]
    tuned, plain = (
        _store(root, tmp_path / f"{n}.zarr", w) for n, w in (("tuned", summary["weights"]), ("plain", None))
    )
    how = {"split": "val", "episodes": 20, "progress": False}
    record = evaluate(tuned, tmp_path / "run/head", **how)
    assert record["selected_on"] == "val"
    assert record["accuracy"] == pytest.approx(summary["result"]["val_accuracy"]), "as it was scored in training"
    with pytest.raises(SpecMismatchError, match="weights: "):
        evaluate(plain, tmp_path / "run/head", **how)
    assert "--precision fp32" in summary["next"]
    assert summary["weights"] in summary["next"]


def test_classes_that_the_backbone_was_tuned_on_are_no_test_classes(root, tmp_path):
    """Neither for another head nor under another spelling, unless it is said."""
    summary = tune(root, tmp_path / "run", train_episodes=2)
    other = tmp_path / "other"
    shutil.copytree(root / "train/blink", other / "test/walk")
    shutil.copytree(root / "train/slide_right", other / "test/Slide Right")
    store = _store(other, tmp_path / "other.zarr", summary["weights"])
    how: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}, "way": 2, "episodes": 20, "progress": False}
    words = r"the backbone was fine-tuned on 1 of the 2 test classes .*'Slide Right'.*--allow-seen-classes"
    with pytest.raises(FewShotError, match=words):
        evaluate(store, out=tmp_path, **how)
    record = evaluate(store, out=tmp_path, allow_seen_classes=True, **how)
    assert record["seen_classes"] == ["Slide Right"]


@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
def test_a_middle_stage_trains_as_videos_do(root, tmp_path, monkeypatch, batchnorm):
    """Step for step, with the front frozen, in evaluation mode, and rounded to float16; mirrored views are drawn."""
    monkeypatch.setattr(inference, "FOLDING_ERROR", -1.0)  # folding changes last bits before the rounding
    options: dict[str, Any] = {"batchnorm": batchnorm, "lr": 0.02}
    real = running.load_backbone

    def rounding(*args: Any, **how: Any) -> Backbone:
        base = real(*args, **how)
        base.module.get_submodule("layer3").register_forward_hook(lambda _m, _a, cubes: cubes.half().float())
        return base

    with monkeypatch.context() as patch:
        patch.setattr(running, "load_backbone", rounding)
        tune(root, tmp_path / "videos", freeze=FRONT, augmentations=("flip",), **options)
    store = _store(root, tmp_path / "layer3.zarr", None, "layer3", views=("plain", "flip"))
    how = {"way": 2, "train_episodes": 6, "batch": 2, "precision": "fp32", "val_episodes": 20, "val_every": 2}
    finetune(recipe="tail", features=store.path, out=tmp_path / "tail", device="cpu", **how, **options)
    for found, expected in zip(lines(tmp_path / "tail"), lines(tmp_path / "videos"), strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    close(weights(tmp_path / "tail"), weights(tmp_path / "videos"))
    begin = load_backbone("r3d-tiny", size=32).module.state_dict()
    moved = {n.split(".")[0] for n, v in weights(tmp_path / "tail").items() if not torch.equal(v, begin[n])}
    assert moved == {"layer4"}
    norms = [n for n in begin if n.startswith("layer4") and n.endswith("running_mean")]
    kept = [torch.equal(begin[n], weights(tmp_path / "tail")[n]) for n in norms]
    assert all(kept) if batchnorm == "frozen" else not any(kept)


def test_checkpointing_and_parts_change_memory_alone(root, tmp_path):
    """Running statistics move once; an update of one part is the same where BatchNorm is frozen."""
    how: dict[str, Any] = {"train_episodes": 4, "select_on": "none", "val_episodes": None, "val_every": None}
    for name, more in {
        "plain": {},
        "checkpointed": {"checkpointing": True},
        "frozen": {"batchnorm": "frozen"},
        "at once": {"batchnorm": "frozen", "accumulate": 1},
    }.items():
        tune(root, tmp_path / name, **how, **more)
    close(weights(tmp_path / "checkpointed"), weights(tmp_path / "plain"))
    close(weights(tmp_path / "at once"), weights(tmp_path / "frozen"))
    assert not torch.equal(weights(tmp_path / "plain")["conv1.weight"], weights(tmp_path / "frozen")["conv1.weight"])
