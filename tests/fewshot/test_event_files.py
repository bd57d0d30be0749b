"""TensorBoard event files of a run: the same numbers as its JSON lines, whatever happened in between."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mastaf.cache.errors import CacheError
from mastaf.fewshot.train import train
from mastaf.fewshot.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 96, "batch": 8, "val_episodes": 20, "val_every": 24}
TAGS = {"loss": "loss", "lr": "lr", "train_accuracy": "accuracy/train", "val_accuracy": "accuracy/val"}


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder / "tensorboard"))
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def require_equal(folder: Path) -> None:
    found = events(folder)
    assert set(found) == set(TAGS.values())
    for name, tag in TAGS.items():
        expected = [(line["episodes"], pytest.approx(line[name])) for line in lines(folder)]
        assert found[tag] == expected


def test_they_hold_the_metrics_lines(tmp_path: Path, toy_store: Any) -> None:
    train(toy_store, out=tmp_path / "run", tensorboard=True, **SMALL)
    assert len(lines(tmp_path / "run")) == 4
    require_equal(tmp_path / "run")


def test_a_run_that_was_cut_has_each_line_once(tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = Trainer._save, [2]

    def cut(self: Trainer, progress: Any) -> None:
        left[0] -= 1
        if left[0] < 0:  # the line of 72 episodes is written, its state is not
            raise KeyboardInterrupt
        real(self, progress)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_save", cut)
        train(toy_store, out=tmp_path / "run", tensorboard=True, **SMALL)
    train(toy_store, out=tmp_path / "run", tensorboard=True, **SMALL)
    require_equal(tmp_path / "run")


def test_a_finished_run_gets_them_later(tmp_path: Path, toy_store: Any) -> None:
    train(toy_store, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run" / "tensorboard").exists()
    train(toy_store, out=tmp_path / "run", tensorboard=True, **SMALL)
    require_equal(tmp_path / "run")


def test_without_the_extra_nothing_is_begun(tmp_path: Path, toy_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(CacheError, match=r"--tensorboard needs the package tensorboard.*'mastaf\[tensorboard\]'"):
        train(toy_store, out=tmp_path / "run", tensorboard=True, **SMALL)
    assert not (tmp_path / "run").exists()
    assert train(toy_store, out=tmp_path / "run", **SMALL).episodes == 96
