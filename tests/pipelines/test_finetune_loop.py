"""The loop of fine-tuning, on cubes of a middle stage that are made up: nothing is decoded, and steps are cheap."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from mastaf.cache.errors import SpecMismatchError
from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError
from mastaf.extract.recipe import make_spec
from mastaf.fewshot.checkpoint import load_run_for
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.train import train
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.finetuning import episodic
from mastaf.pipelines.finetuning.finetune import finetune
from mastaf.pipelines.finetuning.memory import kept_bytes

pytestmark = pytest.mark.usefixtures("one_thread")


def make_like(make_store: Callable[..., Any], path: Path, layer: str, **changed: Any) -> Path:
    """A store of noise that says that it holds r3d-tiny's cubes of a stage, for clips of 32 x 32."""
    base = load_backbone("r3d-tiny", size=32, layer=layer)
    spec = asdict(make_spec(base, views=("plain",), sampling="even", precision="fp32")) | changed
    make_store(path, videos=16, separation=2.0, **spec)
    return path


@pytest.fixture(scope="module")
def middle(make_store, tmp_path_factory) -> Path:
    return make_like(make_store, tmp_path_factory.mktemp("middle") / "layer3.zarr", "layer3")


SMALL: dict[str, Any] = {"way": 3, "train_episodes": 8, "batch": 2, "val_episodes": 12, "val_every": 4}


def tune(middle: Path, out: Path, **options: Any) -> dict[str, Any]:
    return finetune(recipe="tail", features=middle, out=out, precision="fp32", device="cpu", **(SMALL | options))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_backbone("r3d-tiny", weights=str(out / "backbone.safetensors"), size=32).module.state_dict()


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from mastaf.pipelines.finetuning import progress
from mastaf.pipelines.finetuning.finetune import finetune

torch.set_num_threads(1)
saved, real = [], progress.save

def save(*args):
    saved.append(args)
    if len(saved) == 2:  # after metrics and best weights, before the state
        os.kill(os.getpid(), signal.SIGKILL)
    real(*args)

progress.save = save
store, out, options = Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3])
finetune(recipe="tail", features=store, out=out, precision="fp32", device="cpu", **options)
"""


def test_a_killed_run_ends_with_the_same_bits(middle, tmp_path):
    options = {**SMALL, "optimiser": "adamw", "lr": 1e-3, "schedule": "cosine", "warm_up": 0.5, "clip_norm": 1.0}
    options |= {"train_episodes": 12, "method_keywords": {"adapter": True}}
    script = [sys.executable, "-c", KILLED, str(middle), str(tmp_path / "run"), repr(options)]
    killed = subprocess.run(script, timeout=120, check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 4
    with pytest.raises(PipelineError, match=r"holds a run of other settings \(lr: 0.1 here, 0.001 there\)"):
        tune(middle, tmp_path / "run", **options | {"lr": 0.1})
    tune(middle, tmp_path / "run", **options)
    tune(middle, tmp_path / "whole", **options)
    for name in ("backbone.safetensors", "head/best.safetensors", "metrics.jsonl"):
        assert _plain(tmp_path / "run" / name) == _plain(tmp_path / "whole" / name), name


def _plain(path: Path) -> Any:
    """What a file holds, but for seconds."""
    if path.name == "backbone.safetensors":
        return {name: value.tolist() for name, value in weights(path.parent).items()}
    return path.read_bytes()


def by_episodes(name: str) -> bool:
    """Whether a method with its defaults is trained so."""
    return load_method(name).build(cube_shape=(4, 4, 2, 2), n_train_classes=3).episodic


@pytest.mark.parametrize("method", [name for name in METHODS if by_episodes(name)])
def test_every_method_that_is_trained_by_episodes_moves_the_network(middle, tmp_path, method):
    how = {"train_episodes": 2, "select_on": "none", "val_episodes": None, "val_every": None, "method": method}
    tune(middle, tmp_path / "run", lr=0.01, **how)
    begin = load_backbone("r3d-tiny", size=32).module.state_dict()
    changed = {name.split(".")[0] for name, value in weights(tmp_path / "run").items() if (value != begin[name]).any()}
    assert changed == {"layer4"}
    assert (tmp_path / "run/head/summary.json").is_file()


def test_the_best_weights_on_val_are_kept(middle, tmp_path, monkeypatch):
    """Those of backbone and head; `patience` ends the run."""
    accuracies = iter([(0.5, 0.1), (0.75, 0.1), (0.625, 0.1), (0.625, 0.1)])
    monkeypatch.setattr(episodic.LiveScore, "__call__", lambda _self: next(accuracies))
    summary = tune(middle, tmp_path / "run", val_every=2, train_episodes=40, patience=2)
    assert {k: summary["result"][k] for k in ("val_accuracy", "chosen_step", "steps")} == {
        "val_accuracy": 0.75,
        "chosen_step": 2,
        "steps": 4,
    }
    tune(middle, tmp_path / "short", train_episodes=4, select_on="none", val_episodes=None, val_every=None)
    for name, value in weights(tmp_path / "short").items():
        assert torch.equal(weights(tmp_path / "run")[name], value), name
    best, last = (tmp_path / "run/head/best.safetensors", tmp_path / "short/head/last.safetensors")
    spec = load_run_for(best, _spec(tmp_path / "run"), "it").method.state_dict()
    other = load_run_for(last, _spec(tmp_path / "short"), "it").method.state_dict()
    assert all(torch.equal(spec[name], other[name]) for name in other)
    assert json.loads((tmp_path / "run/head/summary.json").read_text())["weights_episodes"] == 4


def _spec(out: Path) -> Any:
    base = load_backbone("r3d-tiny", weights=str(out / "backbone.safetensors"), size=32)
    return make_spec(base, views=("plain",), sampling="even", precision="fp32")


def test_a_head_of_stage_two_can_be_gone_on_from(make_store, middle, tmp_path):
    """If its cubes were of these very weights."""
    last = open_store(make_like(make_store, tmp_path / "layer4.zarr", "layer4"))
    other = open_store(make_like(make_store, tmp_path / "other.zarr", "layer4", weights="ab" * 32))
    for store in (last, other):
        train(store, out=tmp_path / store.path.stem, way=3, train_episodes=32, val_episodes=12, progress=False)
    how = {"select_on": "none", "val_episodes": None, "val_every": None, "train_episodes": 2}
    tune(middle, tmp_path / "run", head=tmp_path / "layer4", head_lr=1e-30, **how)
    spec = make_spec(load_backbone("r3d-tiny", size=32), views=("plain",), sampling="even", precision="fp32")
    begun = load_run_for(tmp_path / "layer4", spec, "it").method.state_dict()
    left = load_run_for(tmp_path / "run/head", _spec(tmp_path / "run"), "it").method.state_dict()
    assert all(torch.equal(left[name], value) for name, value in begun.items() if "running" not in name)
    with pytest.raises(SpecMismatchError, match="weights: abababababab"):
        tune(middle, tmp_path / "refused", head=tmp_path / "other", **how)
    with pytest.raises(PipelineError, match="head fixes the method"):
        tune(middle, tmp_path / "refused", head=tmp_path / "layer4", method="trx", **how)


def test_a_loss_that_is_no_number_names_the_last_good_checkpoint(middle, tmp_path, monkeypatch):
    real = episodic.live_cubes
    calls: list[int] = []

    def broken(*args: Any) -> torch.Tensor:
        calls.append(1)
        return real(*args) * (float("nan") if torch.is_grad_enabled() and _trained(calls) > 6 else 1.0)

    def _trained(found: list[int]) -> int:
        trained[0] += 1
        return trained[0]

    trained = [0]
    monkeypatch.setattr(episodic, "live_cubes", broken)
    with pytest.raises(PipelineError) as caught:
        tune(middle, tmp_path / "run")
    words = str(caught.value)
    assert "the loss is nan at step 4" in words
    assert f"the last good state, of step 2, is {tmp_path}/run/state.safetensors" in words
    assert f"the best weights so far, of step 2, are {tmp_path}/run/best.safetensors" in words
    assert not (tmp_path / "run/backbone.safetensors").exists()
    trained[0] = -100  # the same command goes on from there
    assert tune(middle, tmp_path / "run")["result"]["steps"] == 4


def test_too_little_memory_says_what_lowers_it(middle, tmp_path, monkeypatch):
    def full(*_args: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(episodic, "live_cubes", full)
    with pytest.raises(PipelineError) as caught:
        tune(middle, tmp_path / "run", select_on="none", val_episodes=None, val_every=None, accumulate=1)
    kept = kept_bytes(load_backbone("r3d-tiny", size=32))
    assert "out of memory in a step of 2 episodes; --accumulate 2 keeps" in str(caught.value)
    assert "--checkpointing keeps" in str(caught.value)
    assert 0 < kept.checkpointed < kept.plain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": "hmdb51"}, "dataset (hmdb51) belongs to --recipe classify and episodic; leave it out"),
        ({"features": None}, "features must be a store of a middle stage"),
        ({"backbone": "r3d"}, "backbone (r3d) must be that of"),
        ({"weights": "random"}, "hold cubes of different recipes (weights:"),
        ({"freeze": ("layer3",)}, "freeze ('layer3') must be of the stages that are trained: layer4"),
        ({"freeze": ("layer4",)}, "freeze (layer4) must leave a stage to train"),
        ({"method": "protogan"}, "is not trained by episodes"),
        ({"method": "magic"}, "magic"),
        ({"way": 7}, "7 or more are needed"),
        ({"way": 1}, "way (1) must be at least 2"),
        ({"shot": 16}, "shot (16) + queries (1) need 17 videos a class"),
        ({"select_on": "test"}, "select_on ('test') must be one of val, none"),
        ({"select_on": "none"}, "val_episodes, val_every and patience need --select-on val"),
        ({"schedule": "cosine", "step_every": 3}, "step_every and step_factor belong to schedule 'step'"),
        ({"optimiser": "magic"}, "optimiser (magic) must be one of"),
    ],
)
def test_wrong_options_are_one_line(middle, tmp_path, options, words):
    given = {"features": middle, "out": tmp_path / "run", "precision": "fp32", "device": "cpu", **SMALL}
    with pytest.raises((PipelineError, ExtractError, FewShotError, SpecMismatchError)) as caught:
        finetune(recipe="tail", **given | options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/backbone.safetensors").exists()


def test_a_last_stage_leaves_nothing_to_train(make_store, tmp_path):
    last = make_like(make_store, tmp_path / "layer4.zarr", "layer4")
    with pytest.raises(PipelineError, match="nothing is left to train; extract those of an earlier stage"):
        tune(last, tmp_path / "run")
