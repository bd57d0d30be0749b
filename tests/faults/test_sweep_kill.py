"""A sweep killed at the moment of a write, its journal's among them, tries what a sweep that was not killed tries."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Kills itself at its n-th flush to disk; Optuna's journal flushes after it has written, the project's files before they
# get their names.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from mastaf.pipelines.sweep import sweep

torch.set_num_threads(1)
store, out, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
real, calls = os.fsync, 0

def fsync(descriptor):
    global calls
    calls += 1
    if calls == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)

os.fsync = fsync
space = {"tau": "0.01:1", "bottleneck": "2:8", "global_weight": "0,1", "lr": "0.001:0.1"}
sweep([store], space=space, trials=3, out=out, way=3, train_episodes=16, batch=8, val_episodes=20)
print(calls)
"""
NEVER = 0


def run(store: Path, out: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(store), str(out), str(kill_at)]
    return subprocess.run(command, timeout=120, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, toy_store: Any) -> tuple[Path, int]:
    """A sweep that was not killed, and how often it flushed."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    done = run(toy_store.path, folder, NEVER)
    assert done.returncode == 0, done.stderr
    return folder, int(done.stdout.splitlines()[-1])


def require_same(found: Path, expected: Path) -> None:
    for number in range(3):
        one, two = (folder / "1shot" / f"trial_{number:04d}" for folder in (found, expected))
        assert (one / "best.safetensors").read_bytes() == (two / "best.safetensors").read_bytes()
    assert not (found / "1shot" / "trial_0003").exists()
    here, there = (json.loads((folder / "best.json").read_text())["shots"]["1"] for folder in (found, expected))
    assert {**here, "run": "", "command": ""} == {**there, "run": "", "command": ""}


def test_a_killed_sweep_tries_the_same(tmp_path: Path, toy_store: Any, whole: tuple[Path, int]) -> None:
    # In its first settings, in the journal while a trial is asked for, and in the middle of the trials.
    for kill_at in (1, 7, 30):
        assert run(toy_store.path, tmp_path / "run", kill_at).returncode == -signal.SIGKILL
    assert run(toy_store.path, tmp_path / "run", NEVER).returncode == 0
    require_same(tmp_path / "run", whole[0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_flush(tmp_path: Path, toy_store: Any, whole: tuple[Path, int]) -> None:
    folder, flushes = whole
    for kill_at in range(1, flushes + 1):
        out = tmp_path / str(kill_at)
        assert run(toy_store.path, out, kill_at).returncode == -signal.SIGKILL, kill_at
        assert run(toy_store.path, out, NEVER).returncode == 0, kill_at
        require_same(out, folder)
