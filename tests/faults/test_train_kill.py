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
      method_keywords={"adapter": True})
"""


def run(store: Path, out: Path, kill_at: int) -> int:
    command = [sys.executable, "-c", SCRIPT, str(store), str(out), str(kill_at)]
    return subprocess.run(command, timeout=120, check=False).returncode


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "episodes_per_s"} for line in found]


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, toy_store: Any) -> None:
    assert run(toy_store.path, tmp_path / "whole", 0) == 0
    # Every file takes two flushes (its own, its folder's); resuming takes two more, to trim the metrics.
    for kill_at in (1, 6, 7, 9):
        assert run(toy_store.path, tmp_path / "killed", kill_at) == -signal.SIGKILL
    assert run(toy_store.path, tmp_path / "killed", 0) == 0
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    whole, killed = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "killed"))
    same = set(whole) - {"out", "seconds"}
    assert {name: whole[name] for name in same} == {name: killed[name] for name in same}


@pytest.mark.soak
@pytest.mark.parametrize("kill_at", range(1, 40))
def test_killed_at_every_flush(tmp_path: Path, toy_store: Any, kill_at: int) -> None:
    assert run(toy_store.path, tmp_path / "whole", 0) == 0
    run(toy_store.path, tmp_path / "killed", kill_at)
    assert run(toy_store.path, tmp_path / "killed", 0) == 0
    assert (tmp_path / "killed" / "best.safetensors").read_bytes() == (
        tmp_path / "whole" / "best.safetensors"
    ).read_bytes()
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
