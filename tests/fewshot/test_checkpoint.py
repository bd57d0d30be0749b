"""What a checkpoint refuses."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mastaf.cache.errors import SpecMismatchError
from mastaf.fewshot.checkpoint import load_run
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.train import train
from mastaf.fewshot.weights import read_tensors, write_tensors

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Any]
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 16, "batch": 8, "val_episodes": 10}


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def run(tmp_path: Path, toy_store: Any) -> Path:
    return train(toy_store, out=tmp_path / "run", **SMALL).out


def test_a_loaded_run_scores_as_the_trained_one(run: Path, toy_store: Any) -> None:
    loaded = load_run(run, toy_store)
    tensors, note = read_tensors(run / "best.safetensors")
    assert note["selected_on"] == loaded.selected_on == "val"
    assert all(torch.equal(tensors[name], value) for name, value in loaded.method.state_dict().items())


def test_cubes_of_another_shape(run: Path, tmp_path: Path, make_store: Make) -> None:
    other = make_store(tmp_path / "other.zarr", cube_shape=(6, 2, 2, 2))
    with pytest.raises(FewShotError, match=r"checkpoint of cubes 6x1x2x2, store .* has 6x2x2x2"):
        load_run(run, other)


def test_a_store_of_another_recipe(run: Path, tmp_path: Path, make_store: Make) -> None:
    other = make_store(tmp_path / "other.zarr", frames=8, sampling="shuffled")
    with pytest.raises(
        SpecMismatchError,
        match="frames: 16 in the first, 8 in the second; sampling: even in the first, shuffled in the second",
    ):
        load_run(run, other)


def test_another_store_of_the_same_recipe_is_fine(run: Path, tmp_path: Path, make_store: Make) -> None:
    other = make_store(tmp_path / "other.h5", split_classes={"test": "xyz"}, seed=4)
    assert load_run(run, other).selected_on == "val"


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt", ".PTH"])
def test_a_pickle_is_refused_unread(run: Path, toy_store: Any, suffix: str) -> None:
    (run / f"model{suffix}").write_bytes(pickle.dumps(Bomb(run / "exploded")))
    with pytest.raises(FewShotError, match="refused unread"):
        load_run(run / f"model{suffix}", toy_store)
    assert not (run / "exploded").exists()


def test_a_pickle_by_another_name_is_not_unpickled(run: Path, toy_store: Any) -> None:
    (run / "best.safetensors").write_bytes(pickle.dumps(Bomb(run / "exploded")))
    with pytest.raises(FewShotError, match="not a safetensors file"):
        load_run(run, toy_store)
    assert not (run / "exploded").exists()


def test_missing_unexpected_and_misshapen_weights_are_named(run: Path, toy_store: Any) -> None:
    tensors, note = read_tensors(run / "best.safetensors")
    names = sorted(tensors)
    changed = {**tensors, "stranger": torch.zeros(3), names[1]: torch.zeros(17, 3)}
    del changed[names[0]]
    write_tensors(run / "best.safetensors", changed, note)
    with pytest.raises(FewShotError, match=f"missing {names[0]}; unexpected stranger; {names[1]} is 17x3, not"):
        load_run(run, toy_store)


def test_a_run_that_is_not_finished(run: Path, toy_store: Any) -> None:
    (run / "summary.json").unlink()
    with pytest.raises(FewShotError, match=r"not finished; run the same train command.*best\.safetensors"):
        load_run(run, toy_store)
    assert load_run(run / "best.safetensors", toy_store).selected_on == "val"


def test_what_is_no_run(tmp_path: Path, toy_store: Any) -> None:
    with pytest.raises(FewShotError, match="does not exist"):
        load_run(tmp_path / "nowhere", toy_store)
    with pytest.raises(FewShotError, match=r"not a run \(it has no config.json\)"):
        load_run(tmp_path, toy_store)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"way": "five"}, "way"),
        ({"seed": True}, "seed"),
        ({"keywords": []}, "keywords"),
        ({"train_classes": [1, 2]}, "train_classes"),
        ({"schema": 99}, "schema"),
        ({"method": "os.system"}, "unknown method"),
        ({"keywords": {"variant": "full", "evil": 1}}, "evil"),
        ({"keywords": {"variant": 3}}, "variant"),
        ({"spec": {"backbone": "x"}}, "spec"),
        ({"more": 1}, "more"),
    ],
)
def test_settings_of_strangers_are_checked(run: Path, toy_store: Any, change: dict[str, Any], says: str) -> None:
    value = json.loads((run / "config.json").read_text()) | change
    (run / "config.json").write_text(json.dumps(value))
    with pytest.raises(FewShotError, match=says):
        load_run(run, toy_store)


@pytest.mark.parametrize("text", ["", "{", "[]", "NaN", "[" * 100_000])
def test_damaged_settings(run: Path, toy_store: Any, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(FewShotError, match=r"config\.json"):
        load_run(run, toy_store)


def test_a_damaged_summary(run: Path, toy_store: Any) -> None:
    value = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(value | {"weights": "../../elsewhere.safetensors"}))
    with pytest.raises(FewShotError, match="weights"):
        load_run(run, toy_store)
    (run / "summary.json").write_text("{}")
    with pytest.raises(FewShotError, match="not the summary"):
        load_run(run, toy_store)


def test_truncated_weights(run: Path, toy_store: Any) -> None:
    data = (run / "best.safetensors").read_bytes()
    for size in (0, 5, len(data) // 2, len(data) - 1):
        (run / "best.safetensors").write_bytes(data[:size])
        with pytest.raises(FewShotError, match="damaged"):
            load_run(run, toy_store)
