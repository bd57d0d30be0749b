"""Training killed at the moment of a write, again and again, ends with the weights of a run that was not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
from mastaf.cache.store import open_store
from mastaf.fewshot.train import train

def work(store, out):
    train(open_store(store), out=out, way=3, train_episodes=96, batch=8, val_episodes=20, val_every=24, progress=False,
          method_keywords={"adapter": True}, optimiser="adamw", schedule="cosine", clip_norm=0.5, label_smoothing=0.1)
"""


@pytest.fixture(scope="module")
def train(at_flushes: Callable, toy_store: Any) -> Callable[..., int]:
    """Killed before a file gets its name, and between a run's several files; see `AtFlushes`."""
    return at_flushes(SCRIPT, toy_store.path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, train: Callable[..., int]) -> tuple[Path, int]:
    """A run that was not killed, and how often it flushed."""
    folder = tmp_path_factory.mktemp("train") / "whole"
    return folder, train(folder)


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


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path, train: Callable, whole: tuple[Path, int]) -> None:
    # Every file takes two flushes (its own, its folder's); resuming takes two more, to trim the metrics.
    train(tmp_path / "run", 1, 7, 9)
    require_same(tmp_path / "run", whole[0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_flush(tmp_path: Path, train: Callable, whole: tuple[Path, int]) -> None:
    folder, flushes = whole
    for kill_at in range(1, flushes + 1):
        train(tmp_path / str(kill_at), kill_at)
        require_same(tmp_path / str(kill_at), folder)
