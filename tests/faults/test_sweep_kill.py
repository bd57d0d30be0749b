"""A sweep killed at the moment of a write, its journal's among them, tries what a sweep that was not killed tries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Optuna's journal flushes after it has written, the project's files before they get their names.
SCRIPT = """
import optuna
from mastaf.pipelines.sweep import sweep

def work(store, out):
    space = {"tau": "0.01:1", "bottleneck": "2:8", "global_weight": "0,1", "lr": "0.001:0.1"}
    sweep([store], space=space, trials=3, out=out, way=3, train_episodes=16, batch=8, val_episodes=20)
"""


@pytest.fixture(scope="module")
def sweep(at_flushes: Callable, toy_store: Any) -> Callable[..., int]:
    """See `AtFlushes`."""
    return at_flushes(SCRIPT, toy_store.path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sweep: Callable[..., int]) -> tuple[Path, int]:
    """A sweep that was not killed, and how often it flushed."""
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    return folder, sweep(folder)


def require_same(found: Path, expected: Path) -> None:
    for number in range(3):
        one, two = (folder / "1shot" / f"trial_{number:04d}" for folder in (found, expected))
        assert (one / "best.safetensors").read_bytes() == (two / "best.safetensors").read_bytes()
    assert not (found / "1shot" / "trial_0003").exists()
    here, there = (json.loads((folder / "best.json").read_text())["shots"]["1"] for folder in (found, expected))
    assert {**here, "run": "", "command": ""} == {**there, "run": "", "command": ""}


def test_a_killed_sweep_tries_the_same(tmp_path: Path, sweep: Callable, whole: tuple[Path, int]) -> None:
    # In its first settings, in the journal while a trial is asked for, and in the middle of the trials.
    sweep(tmp_path / "run", 1, 7, 30)
    require_same(tmp_path / "run", whole[0])


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_flush(tmp_path: Path, sweep: Callable, whole: tuple[Path, int]) -> None:
    folder, flushes = whole
    for kill_at in range(1, flushes + 1):
        sweep(tmp_path / str(kill_at), kill_at)
        require_same(tmp_path / str(kill_at), folder)
