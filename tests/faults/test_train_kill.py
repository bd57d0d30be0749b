"""Training killed at the moment of a write, again and again, ends with the weights of a run that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# Kills itself at its n-th flush to disk: before a file gets its name, and between a run's several files.
SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from mastaf.cache import atomic
from mastaf.cache.store import open_store
from mastaf.fewshot.train import train

torch.set_num_threads(1)
store, out, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
real, calls = os.fsync, 0

def fsync(descriptor):
    global calls
    calls += 1
    if calls == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)

atomic.os.fsync = fsync
train(open_store(store), out=out, way=3, train_episodes=96, batch=8, val_episodes=20, val_every=24, progress=False,
      method_keywords={"adapter": True}, optimiser="adamw", schedule="cosine", clip_norm=0.5, label_smoothing=0.1)
print(calls)
"""
NEVER = 0


def run(store: Path, out: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(store), str(out), str(kill_at)]
    return subprocess.run(command, timeout=120, check=False, capture_output=True, text=True)


def killed(store: Path, out: Path, kill_at: int) -> bool:
    return run(store, out, kill_at).returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, toy_store: Any) -> tuple[Path, int]:
    """A run that was not killed, and how often it flushed."""
    folder = tmp_path_factory.mktemp("train") / "whole"
    done = run(toy_store.path, folder, NEVER)
    assert done.returncode == 0, done.stderr
    return folder, int(done.stdout)


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "episodes_per_s"} for line in found]


def require_same(found: Path, expected: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes()
    assert lines(found) == lines(expected)
    here, there = (json.loads((folder / "summary.json").read_text()) for folder in (found, expected))
    same = set(there) - {"out", "seconds"}
    assert {name: here[name] for name in same} == {name: there[name] for name in same}


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, toy_store: Any, whole: tuple[Path, int]) -> None:
    # Every file takes two flushes (its own, its folder's); resuming takes two more, to trim the metrics.
    for kill_at in (1, 7, 9):
        assert killed(toy_store.path, tmp_path / "run", kill_at)
    assert run(toy_store.path, tmp_path / "run", NEVER).returncode == 0
    require_same(tmp_path / "run", whole[0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_flush(tmp_path: Path, toy_store: Any, whole: tuple[Path, int]) -> None:
    folder, flushes = whole
    for kill_at in range(1, flushes + 1):
        out = tmp_path / str(kill_at)
        assert killed(toy_store.path, out, kill_at), kill_at
        assert run(toy_store.path, out, NEVER).returncode == 0, kill_at
        require_same(out, folder)
