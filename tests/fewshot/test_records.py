"""Result records: what is written is read back, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.records import Predictions, read_predictions, read_record, write_result

FIELDS = """
schema method variant preset adapter dataset backbone layer time cube_shape frames size random_weights way shot
query_mode queries episodes_from source_shared episodes split classes accuracy ci95 ci95_clustered ece seed
list_seed precision train_precision recipe store episode_list coverage pretraining selected_on trained_on
seen_classes versions seconds predictions
"""


def predictions(m: int = 6, way: int = 3) -> Predictions:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((m, way)).astype(np.float32)
    classes = np.stack([rng.permutation(4)[:way] for _ in range(m)])
    label = rng.integers(0, way, m)
    return Predictions(
        np.arange(m) // 2, rng.integers(0, 50, m), label, logits.argmax(1), logits, classes, ("a", "b", "ç", "d")
    )


def facts(**changed: Any) -> dict[str, Any]:
    return {
        "method": "mastaf",
        "variant": "full",
        "preset": "code",
        "adapter": False,
        "dataset": "toy",
        "backbone": "r3d-tiny",
        "layer": "layer4",
        "time": "keep",
        "cube_shape": [64, 1, 4, 4],
        "frames": 16,
        "size": 112,
        "random_weights": False,
        "way": 3,
        "shot": 1,
        "query_mode": "per_class",
        "queries": 2,
        "episodes_from": "random",
        "source_shared": None,
        "episodes": 3,
        "split": "test",
        "classes": 4,
        "accuracy": 0.5,
        "ci95": 0.1,
        "ci95_clustered": [0.2, 0.8],
        "ece": 0.05,
        "seed": 0,
        "list_seed": 0,
        "precision": "fp32",
        "train_precision": "fp32",
        "recipe": "r",
        "store": "s",
        "episode_list": "e",
        "coverage": {"videos": 4},
        "pretraining": {"data": None, "overlap": None},
        "selected_on": "val",
        "trained_on": {"store": "s"},
        "seen_classes": [],
        "versions": {"torch": "2"},
        "seconds": 1.5,
    } | changed


def test_record_and_predictions_come_back(tmp_path: Path) -> None:
    made = write_result(tmp_path / "new" / "r.1", predictions(), **facts())
    record = read_record(tmp_path / "new" / "r.1.json")
    assert record == made
    assert list(json.loads((tmp_path / "new" / "r.1.json").read_text())) == FIELDS.split()
    found = read_predictions(tmp_path / "new" / record.predictions["path"], record.predictions["sha256"])
    for name in ("episode", "query_row", "label", "predicted", "logits", "classes"):
        np.testing.assert_array_equal(getattr(found, name), getattr(predictions(), name))
    assert found.class_names == ("a", "b", "ç", "d")
    assert [found.class_names[n] for n in found.query_class] == [
        found.class_names[row[label]] for row, label in zip(found.classes, found.label, strict=True)
    ]


def test_the_same_predictions_are_the_same_bytes() -> None:
    assert predictions().to_bytes() == predictions().to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"accuracy": 1.5},
        {"accuracy": "high"},
        {"way": True},
        {"adapter": 1},
        {"schema": 1},
        {"selected_on": "train"},
        {"seen_classes": None},
        {"predictions": {"path": "../../etc/passwd", "sha256": "0" * 64}},
        {"predictions": {"path": "r.npz", "sha256": "short"}},
        {"variant": 3},
        {"cube_shape": [64, 1, 4]},
        {"cube_shape": [64, 1, True, 4]},
        {"random_weights": 0},
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    write_result(tmp_path / "r", predictions(), **facts())
    value = json.loads((tmp_path / "r.json").read_text()) | change
    (tmp_path / "r.json").write_text(json.dumps(value))
    with pytest.raises(FewShotError, match=next(iter(change))):
        read_record(tmp_path / "r.json")


def test_missing_and_unknown_fields_are_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"method": "mastaf", "colour": "red"}))
    with pytest.raises(FewShotError, match=r"accuracy.*colour"):
        read_record(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("[1, 2")
    with pytest.raises(FewShotError, match="not a result record"):
        read_record(tmp_path / "r.json")


def test_changed_predictions_are_refused(tmp_path: Path) -> None:
    record = write_result(tmp_path / "r", predictions(), **facts())
    (tmp_path / "r.npz").write_bytes(predictions(m=8).to_bytes())
    with pytest.raises(FewShotError, match="sha256"):
        read_predictions(tmp_path / "r.npz", record.predictions["sha256"])


def test_pickled_predictions_are_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "exploded",)

    np.savez(tmp_path / "bad.npz", **{name: np.array([Bomb()], dtype=object) for name in ("episode", "logits")})
    with pytest.raises(FewShotError, match="holds no predictions"):
        read_predictions(tmp_path / "bad.npz")
    assert not (tmp_path / "exploded").exists()
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(FewShotError, match="holds no predictions"):
        read_predictions(tmp_path / "text.npz")


def test_arrays_of_a_stranger_are_no_predictions(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros(3))
    flat = {name: np.zeros(3) for name in ("episode", "query_row", "label", "predicted", "classes", "class_names")}
    np.savez(tmp_path / "flat.npz", **flat, logits=np.zeros(3))
    for name in ("one.npy", "flat.npz"):
        with pytest.raises(FewShotError, match="holds no predictions"):
            read_predictions(tmp_path / name)
