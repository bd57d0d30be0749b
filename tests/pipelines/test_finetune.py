"""Fine-tuning: it learns, sees the train classes alone, and leaves a file that loads."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from click.testing import CliRunner
from mastaf.cache import console
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.errors import ExtractError
from mastaf.fewshot.errors import FewShotError
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.finetuning import cli as finetune_cli
from mastaf.pipelines.finetuning.augment import AUGMENTATIONS
from mastaf.pipelines.finetuning.clips import ClipSource
from mastaf.pipelines.finetuning.finetune import finetune
from safetensors import safe_open


@pytest.fixture
def root(small_motion, tmp_path) -> Path:
    """Two easy train classes; the val and test videos cannot be read, so a look at one of them would show."""
    for name in ("blink", "slide_right"):
        shutil.copytree(small_motion / "train" / name, tmp_path / "videos" / "train" / name)
    for split, name in (("val", "pulse"), ("test", "rock")):
        folder = tmp_path / "videos" / split / name
        folder.mkdir(parents=True)
        (folder / "clip.mp4").write_text("not a video")
    return tmp_path / "videos"


def tune(root: Path, out: Path, **options):
    small = {"weights": "random", "size": 32, "steps": 2, "batch": 4, "precision": "fp32"}
    return finetune(dataset="folder", root=root, out=out, **(small | options))


def test_it_learns_and_leaves_weights_that_load(root, tmp_path):
    out = tmp_path / "run"
    summary = tune(root, out, steps=40, batch=8, augmentations=["shift"])
    assert summary["failures"] == [], "val and test videos must not be touched"
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])

    start = load_backbone("r3d-tiny", weights="random", size=32)
    tuned = load_backbone("r3d-tiny", weights=str(out / "backbone.safetensors"), size=32)
    assert tuned.weights_sha256 == summary["weights_sha256"] != start.weights_sha256
    assert summary["base_weights"] == start.weights_sha256
    assert tuned.facts["classes_seen"] == [
        {"dataset": "folder", "split_scheme": "folder", "classes": ["blink", "slide_right"]}
    ]
    assert tuned.facts["pretraining"] == ["folder: its 2 train classes"]
    with safe_open(out / "backbone.safetensors", framework="pt") as file:
        provenance = json.loads(file.metadata()["mastaf"])
    assert provenance == json.loads((out / "finetune.json").read_text())
    assert provenance["options"]["lr"] == 2e-3
    assert provenance["options"]["warm_up"] == 0.5, "30 updates would be most of this run"
    left = {"backbone.safetensors", "finetune.json", "metrics.jsonl", "plan.json", "settings.json", "run.lock"}
    assert {path.name for path in out.iterdir()} <= left, "what a finished run does not need is gone"


def test_the_tuned_network_separates_the_classes_it_saw(root, tmp_path):
    tune(root, tmp_path / "run", steps=40, batch=8)
    tuned = load_backbone("r3d-tiny", weights=str(tmp_path / "run/backbone.safetensors"), size=32)
    run = tuned.prepare_for_inference("fp32", "cpu")
    vectors = []
    for name in ("blink", "slide_right"):
        clips = [decode_clip(path, frames=16, rule=tuned.pixels).pixels for path in (root / "train" / name).iterdir()]
        vectors.append(run(torch.from_numpy(np.stack(clips))).mean(dim=(2, 3, 4)))  # [6, c]
    within = sum(torch.cdist(v, v).mean() for v in vectors) / 2
    assert torch.cdist(*vectors).mean() > 1.5 * within


def test_tuning_goes_on_from_tuned_weights_and_remembers_all_classes(root, tmp_path):
    tune(root, tmp_path / "first")
    first = str(tmp_path / "first/backbone.safetensors")
    summary = tune(root, tmp_path / "second", weights=first)
    assert summary["base_source"] == first
    assert summary["options"]["lr"] == 2e-4
    assert len(summary["facts"]["classes_seen"]) == 2


def test_the_seed_decides_everything(root, tmp_path):
    torch.random.manual_seed(1)
    before = torch.random.get_rng_state()
    digests = [
        tune(root, tmp_path / f"run{n}", seed=seed, workers=n + 1)["weights_sha256"] for n, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("entry", list(BACKBONES))
def test_every_backbone_can_be_tuned(root, tmp_path, small_hub, entry):
    name = small_hub[entry]
    summary = tune(root, tmp_path / "run", backbone=name, frames=8, steps=1, batch=2, weights_dtype="float16")
    path = tmp_path / "run/backbone.safetensors"
    assert load_backbone(name, weights=str(path), frames=8, size=32).weights_sha256 == summary["weights_sha256"]
    with safe_open(path, framework="pt") as file:
        kinds = {file.get_tensor(tensor).dtype for tensor in file.keys()}  # noqa: SIM118 - no dictionary
    assert kinds <= {torch.float16, torch.int64}
    path.unlink()


@pytest.mark.parametrize("name", ["hf:owner/mine", "vivit"])
def test_a_model_from_a_folder_of_ones_own_loads_again_from_its_file_alone(root, tmp_path, save_encoder, name):
    """With the configuration and the pixel rule that it was tuned with: no hub, no $MASTAF_WEIGHTS."""
    column = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.VivitConfig(**column, image_size=32, num_frames=8)
    folder = save_encoder(tmp_path / "model", config, image_std=[0.9, 0.8, 0.7])
    summary = tune(root, tmp_path / "run", backbone=name, weights=str(folder), frames=4, steps=1, batch=2)
    shutil.rmtree(folder)
    tuned = load_backbone(name, weights=str(tmp_path / "run/backbone.safetensors"), frames=4, size=32)
    assert tuned.weights_sha256 == summary["weights_sha256"]
    assert tuned.pixels.std == (0.9, 0.8, 0.7)
    with pytest.raises(ExtractError, match="they were tuned with --frames 4 --size 32: pass these"):
        load_backbone(name, weights=str(tmp_path / "run/backbone.safetensors"), frames=8, size=32)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"recipe": "magic"}, "unknown recipe 'magic'"),
        ({"way": 3}, "way (3) belongs to --recipe episodic and tail; leave it out with --recipe classify"),
        ({"colour": 3}, "colour (3) is no option of mastaf finetune"),
        ({"freeze": ("stem", "layer9")}, "freeze ('layer9') must be of the stages that are trained: stem, layer1"),
        ({"freeze": ("stem", "layer1", "layer2", "layer3", "layer4")}, "must leave a stage to train"),
        ({"batchnorm": "off"}, "batchnorm (off) must be one of train, frozen"),
        ({"warm_up": 1.0}, "warm_up (1.0) must be below 1"),
        ({"weights_dtype": "int8"}, "weights_dtype (int8) must be one of float32, float16"),
        ({"seed": -1}, "seed (-1) must be a whole number"),
        ({"augmentations": ["mirror"]}, "augment ('mirror') must be of"),
        ({"backbone": "r3d-huge"}, "unknown backbone 'r3d-huge'"),
        ({"revision": "v1"}, "revision (v1) is for weights of the hub, which 'r3d-tiny' has not"),
        ({"device": "tpu"}, "device (tpu) must be auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "device (cuda:99) is not there"),
        ({"steps": None, "epochs": float("nan")}, "epochs (nan) must be a finite number"),
        ({"steps": None, "epochs": float("inf")}, "epochs (inf) must be a finite number"),
        ({"lr": float("inf")}, "lr (inf) must be a finite number"),
        ({"weight_decay": -1.0}, "weight_decay (-1.0) must be a finite number of at least 0"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(root, tmp_path, options, words):
    with pytest.raises((PipelineError, ExtractError, FewShotError)) as caught:
        tune(root, tmp_path / "run", **options)
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_number_stops_the_run_without_weights(root, tmp_path):
    with pytest.raises(PipelineError, match="use a smaller --lr"):
        tune(root, tmp_path / "run", lr=1e30, steps=9)
    assert not (tmp_path / "run/backbone.safetensors").exists()


def test_one_frame_is_trained_at_a_precision_that_computes_it_rightly(root, tmp_path):
    summary = tune(root, tmp_path / "run", frames=1, precision="auto")
    assert summary["options"]["precision"] == "fp32"


def test_a_precision_that_the_machine_computes_wrongly_is_refused(root, tmp_path, monkeypatch):
    for bound in ("WORST_ERROR", "ROUNDING_ERROR"):
        monkeypatch.setattr(f"mastaf.extract.backbones.inference.{bound}", 0.0)
    with pytest.raises(ExtractError, match="use --precision fp32"):
        tune(root, tmp_path / "run", precision="bf16")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_overwritten(root, tmp_path):
    first = tune(root, tmp_path / "run", steps=1)
    before = (tmp_path / "run/backbone.safetensors").read_bytes()
    assert tune(root, tmp_path / "run", steps=1) == first
    with pytest.raises(
        PipelineError, match=r"holds a run of other settings \(lr: 0.5 here, None there; steps: 2 here, 1"
    ):
        tune(root, tmp_path / "run", steps=2, lr=0.5)
    assert (tmp_path / "run/backbone.safetensors").read_bytes() == before
    with pytest.raises(PipelineError, match="holds other files"):
        tune(root, root)


def test_one_class_is_not_enough(root, tmp_path):
    shutil.rmtree(root / "train/blink")
    with pytest.raises(PipelineError, match="1 train classes, and 2 or more are needed"):
        tune(root, tmp_path / "run")


def test_a_broken_video_is_named_and_the_rest_is_used(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (root / "train/blink/clip000.mp4").write_text("not a video")
    arguments = "--dataset folder --root videos --weights random --size 32 --steps 1 --batch 4"
    result = CliRunner().invoke(finetune_cli.command, arguments.split(), standalone_mode=False)
    assert result.return_value == console.FINISHED_WITH_FAILURES
    assert "trained on 7 clips of 2 classes" in result.output
    assert "blink/clip000" in result.output
    assert (tmp_path / "runs/videos_r3d-tiny_classify/backbone.safetensors").exists()


def test_a_class_without_a_usable_video_is_an_error(root, tmp_path):
    for path in (root / "train/blink").iterdir():
        path.write_text("not a video")
    with pytest.raises(PipelineError, match="no video of class 'blink' can be decoded"):
        tune(root, tmp_path / "run")


def test_clips_that_do_not_fit_into_memory_are_decoded_again(small_motion):
    paths = sorted((small_motion / "test/rock").iterdir())
    rule = load_backbone("r3d-tiny", weights="random", size=32).pixels
    rule = replace(rule, size=rule.resize_size)
    one = 16 * rule.size * rule.size * 3
    sources = [ClipSource(paths, frames=16, rule=rule, memory_bytes=room * one, workers=2) for room in (0, 2, 100)]
    loaded = []
    for source in sources:
        assert source.decode_all() == {}
        loaded.append(source.load([5, 0, 3]))
        source.close()
    assert np.array_equal(loaded[0], loaded[1])
    assert np.array_equal(loaded[0], loaded[2])
    expected = decode_clip(paths[3], frames=16, rule=rule).pixels
    assert np.array_equal(loaded[0][2], expected)


def test_help_does_not_import_torch():
    code = (
        "import sys; from mastaf.pipelines.finetuning.cli import command;"
        "command.main(['--help'], standalone_mode=False); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert "Examples:" in done.stdout
    assert ",".join(AUGMENTATIONS) in done.stdout


def test_epochs_and_steps_together_are_refused():
    result = CliRunner().invoke(finetune_cli.command, ["--epochs", "2", "--steps", "3"])
    assert result.exit_code == 2
    assert "give one of them" in result.output
