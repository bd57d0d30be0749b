"""What chooses the weights: val, a list of val episodes, or, where papers did so, test."""

from pathlib import Path
from typing import Any

import pytest
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.episode_list import read_episode_list
from mastaf.fewshot.episodes.listing import write_listing
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate
from mastaf.fewshot.train import train
from mastaf.fewshot.training.run_config import read_config

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 16, "batch": 8}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The splits of which a bank was made, in order."""
    made: list[str] = []
    real = FeatureBank.__init__

    def watched(self: FeatureBank, store: Any, split: str, **settings: Any) -> None:
        made.append(split)
        real(self, store, split, **settings)

    monkeypatch.setattr(FeatureBank, "__init__", watched)
    return made


def test_training_never_opens_the_test_split_unasked(toy_store: Any, tmp_path: Path, opened: list[str]) -> None:
    train(toy_store, out=tmp_path / "val", **SMALL)
    train(toy_store, out=tmp_path / "none", select_on="none", **SMALL)
    assert opened == ["train", "val", "train"]
    train(toy_store, out=tmp_path / "test", select_on="test", **SMALL)
    assert opened[3:] == ["train", "test"]


def test_selection_on_test_is_stamped(toy_store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = train(toy_store, out=tmp_path / "run", select_on="test", **SMALL)
    assert "scores on test are too high" in capsys.readouterr().out
    assert found.selected_on == read_config(found.out).select_on == "test"
    for weights in (found.out, found.out / "best.safetensors"):
        for split in ("test", "val"):
            assert evaluate(toy_store, weights, split=split, episodes=10)["selected_on"] == "test"
    assert evaluate(toy_store, found.out / "last.safetensors", episodes=10)["selected_on"] == "none"
    with pytest.raises(FewShotError, match="select_on: val here, test there"):
        train(toy_store, out=tmp_path / "run", **SMALL)


def test_without_enough_test_classes_it_is_an_error(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", split_classes={"train": "abcde", "val": "fgh", "test": "ij"})
    with pytest.raises(FewShotError, match=r"way \(3\) must be at most the 2 classes of split 'test'"):
        train(store, out=tmp_path / "run", select_on="test", **SMALL)


def test_a_list_of_val_episodes_selects(toy_store: Any, tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    written = write_listing(toy_store, out=path, split="val", episodes=12, way=2, shot=3)
    found = train(toy_store, out=tmp_path / "run", val_list=path, **SMALL)
    config = read_config(found.out)
    assert (config.val_list, config.val_episodes, found.selected_on) == (written["sha256"], 12, "val")
    drawn = train(toy_store, out=tmp_path / "drawn", val_episodes=12, **SMALL)
    assert read_config(drawn.out).val_list == ""
    # The same episodes, listed or drawn, judge alike.
    same = tmp_path / "same.txt"
    write_listing(toy_store, out=same, split="val", episodes=12, way=3, shot=1)
    listed = train(toy_store, out=tmp_path / "listed", val_list=same, **SMALL)
    assert (listed.val_accuracy, listed.weights_episodes) == (drawn.val_accuracy, drawn.weights_episodes)
    assert (listed.out / "best.safetensors").read_bytes() == (drawn.out / "best.safetensors").read_bytes()


def test_a_list_and_what_contradicts_it(toy_store: Any, tmp_path: Path) -> None:
    path = tmp_path / "test.txt"
    write_listing(toy_store, out=path, split="test", episodes=12, way=3, shot=1)
    assert len(read_episode_list(path)) == 12
    with pytest.raises(FewShotError, match="videos that the split lacks"):
        train(toy_store, out=tmp_path / "a", val_list=path, **SMALL)
    with pytest.raises(FewShotError, match="leave --val-episodes or --episode-list out"):
        train(toy_store, out=tmp_path / "a", val_list=path, val_episodes=5, **SMALL)
    with pytest.raises(FewShotError, match="leave --select-on none or --episode-list out"):
        train(toy_store, out=tmp_path / "a", val_list=path, select_on="none", **SMALL)
    assert not (tmp_path / "a").exists()
