"""Two processes train what one does, refuse to be unlike each other, and end when the other one is gone."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.recipe import make_spec
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.finetuning.finetune import finetune
from mastaf.pipelines.finetuning.task import split_parts

pytestmark = pytest.mark.usefixtures("one_thread")

# Each process does all jobs; `second` are options of process 1 alone, `other_code` lets it run other code, and `dies`
# ends it at its second update.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from mastaf.pipelines.finetuning.finetune import finetune
from mastaf.pipelines.finetuning import running
from mastaf.pipelines.finetuning.loop import Loop

torch.set_num_threads(1)
rank, said, real = int(os.environ["RANK"]), {}, Loop._update

def update(self, batches):
    if dies and rank == 1 and self.progress.updates == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, batches)

Loop._update = update
for name, options in json.loads(sys.argv[1]).items():
    second, dies = options.pop("second", {}), options.pop("dies", False)
    if options.pop("other_code", False) and rank == 1:
        own, running.code_digest = running.code_digest, lambda: "of another checkout"
    options |= second if rank == 1 else {}
    options |= {key: Path(options[key]) for key in ("features", "root", "out") if key in options}
    try:
        finetune(precision="fp32", device="cpu", **options)
        said[name] = "done"
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
    if running.code_digest() == "of another checkout":
        running.code_digest = own
    Path(f"{sys.argv[2]}.{rank}").write_text(json.dumps(said))
"""


def start(jobs: dict[str, Any], said: Path) -> list[dict[str, str]]:
    """What each of two processes said of the jobs; as torchrun starts them."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    about = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, json.dumps(jobs, default=str), str(said)]
    running = [
        subprocess.Popen(command, env={**os.environ, **about, "RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    for process in running:
        process.wait(timeout=200)
    return [json.loads(Path(f"{said}.{rank}").read_text()) for rank in range(2)]


@pytest.fixture
def middle(make_store, tmp_path) -> Path:
    spec = asdict(make_spec(load_backbone("r3d-tiny", size=32, layer="layer3"), views=("plain",), sampling="even",
                            precision="fp32"))  # fmt: skip
    make_store(tmp_path / "layer3.zarr", videos=4, separation=2.0, **spec)
    return tmp_path / "layer3.zarr"


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_backbone("r3d-tiny", weights=str(out / "backbone.safetensors"), size=32).module.state_dict()


def test_two_processes(middle, small_motion, tmp_path):
    for name in ("blink", "slide_right"):
        shutil.copytree(small_motion / "train" / name, tmp_path / "videos" / "train" / name)
    shutil.copytree(tmp_path / "videos", tmp_path / "broken")
    next((tmp_path / "broken/train/blink").iterdir()).write_text("not a video")
    tail: dict[str, Any] = {"recipe": "tail", "features": middle, "way": 3, "train_episodes": 7, "batch": 4}
    selected = {"val_episodes": 12, "val_every": 4}
    clips: dict[str, Any] = {"recipe": "classify", "dataset": "folder", "root": tmp_path / "videos", "size": 32}
    clips |= {"steps": 2, "batch": 4, "accumulate": 2, "batchnorm": "frozen", "lr": 1e-3, "optimiser": "sgd"}
    jobs = {
        "tail": tail | {"out": tmp_path / "tail two", "select_on": "none"},
        "classify": clips | {"out": tmp_path / "classify two"},
        "options": tail | {"out": tmp_path / "refused", "second": {"seed": 5}},
        "videos": clips | {"out": tmp_path / "refused too", "second": {"root": tmp_path / "broken"}},
        "code": tail | {"out": tmp_path / "refused as well", "other_code": True},
        "parts": tail | {"out": tmp_path / "too few", "accumulate": 1},
        "lost": tail | selected | {"out": tmp_path / "lost", "train_episodes": 400, "dies": True},
    }
    first, second = start(jobs, tmp_path / "said")
    for said in (first, second):
        assert (said["tail"], said["classify"]) == ("done", "done")
        assert said["options"].startswith("PipelineError: process 1 of 2 has other options than process 0")
        assert said["videos"].startswith("PipelineError: process 1 of 2 has other videos than process 0")
        assert said["code"].startswith("PipelineError: process 1 of 2 has other code than process 0")
        assert "accumulate (1), and the last update's 3" in said["parts"]
    assert first["lost"].startswith("StoppedError: another process of the run is gone")
    assert "lost" not in second

    for name, options in (("tail", tail | {"select_on": "none"}), ("classify", clips)):
        finetune(precision="fp32", device="cpu", out=tmp_path / name, **options)
        one, two = weights(tmp_path / name), weights(tmp_path / f"{name} two")
        begin = load_backbone("r3d-tiny", size=32).module.state_dict()
        assert any((one[key] != begin[key]).any() for key in one)
        for key, value in one.items():
            if not key.endswith(("running_mean", "running_var", "tracked")):  # averaged, not moved one after the other
                torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
        lines = [(tmp_path / run / "metrics.jsonl").read_text().splitlines() for run in (name, f"{name} two")]
        for expected, found in zip(*lines, strict=True):
            assert json.loads(found)["loss"] == pytest.approx(json.loads(expected)["loss"], rel=1e-4)


def test_parts_are_as_equal_as_can_be():
    assert split_parts(7, 3) == [range(3), range(3, 5), range(5, 7)]
    assert split_parts(2, 5) == [range(1), range(1, 2)]
    assert [len(part) for part in split_parts(32, 32)] == [1] * 32


def test_then_is_for_one_process(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    from mastaf.pipelines.finetuning.then import finetune_then

    with pytest.raises(PipelineError, match="then must run in one process"):
        finetune_then(recipes=["classify"], then=["extract"], out=tmp_path)
