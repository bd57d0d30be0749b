"""What the weights saw, in result records and on the terminal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mastaf.cache.console import run as run_command
from mastaf.cache.label_overlap import LabelOverlap
from mastaf.fewshot.cli import cli
from mastaf.fewshot.evaluate import evaluate_fully
from mastaf.fewshot.records import read_predictions, read_record
from mastaf.fewshot.statistics.pretraining import pretraining_lines

pytestmark = pytest.mark.usefixtures("one_thread")
NEIGHBOR: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}, "way": 3, "episodes": 80}


def finding(grades: dict[str, str]) -> LabelOverlap:
    classes = {
        name: {"grade": grade, "why": "", "labels": [] if grade == "none" else [f"{name}ing"], "more": 0}
        for name, grade in grades.items()
    }
    return LabelOverlap(
        labels_file="k\x1b.txt", labels_sha256="cd" * 32, n_labels=5, rule="words 1", notes=(), classes=classes
    )


@pytest.fixture(params=[".zarr", ".h5"])
def noisy(request: pytest.FixtureRequest, make_store: Callable[..., Any], tmp_path: Path) -> Any:
    """A store on which heads err now and then; its test classes are lift, mop, nod and open."""
    return make_store(tmp_path / f"s{request.param}", separation=1.0)


def test_a_record_says_that_nothing_is_known(noisy: Any, tmp_path: Path) -> None:
    record = evaluate_fully(noisy, out=tmp_path, **NEIGHBOR).record
    assert record["pretraining"] == {"data": None, "overlap": None}
    assert pretraining_lines(record) == []


@pytest.mark.parametrize("grades", ["same none near none", "none none none none", "same near near same"])
def test_accuracies_of_both_kinds_of_classes_as_counted_one_by_one(noisy: Any, tmp_path: Path, grades: str) -> None:
    by_class = dict(zip(("lift", "mop", "nod", "open"), grades.split(), strict=True))
    noisy.write_label_overlap(finding(by_class))
    found = evaluate_fully(noisy, out=tmp_path, **NEIGHBOR)
    overlap = read_record(found.path).pretraining["overlap"]
    assert overlap == found.record["pretraining"]["overlap"]
    assert overlap["labels"] == {"file": "k\x1b.txt", "sha256": "cd" * 32, "n": 5}
    for grade in ("same", "near", "none"):
        assert overlap[grade] == [name for name, its in by_class.items() if its == grade]
    npz = read_predictions(found.path.parent / found.record["predictions"]["path"])
    for kind, wanted in (("overlapping", ("same", "near")), ("other", ("none",))):
        hits = []
        for row, predicted, label in zip(npz.query_row, npz.predicted, npz.label, strict=True):
            if by_class[noisy.index.classes[row]] in wanted:
                hits.append(predicted == label)
        scored = overlap["accuracy"][kind]
        if not hits:
            assert scored is None
            continue
        assert (scored["queries"], scored["accuracy"]) == (len(hits), pytest.approx(sum(hits) / len(hits)))
        assert scored["classes"] == sum(grade in wanted for grade in by_class.values())
        low, high = scored["ci95_clustered"]
        assert low <= scored["accuracy"] <= high
    parts = [part for part in overlap["accuracy"].values() if part]
    assert sum(part["queries"] for part in parts) == len(npz.label)


def test_only_test_classes_were_compared(noisy: Any, tmp_path: Path) -> None:
    noisy.write_label_overlap(finding(dict.fromkeys(("lift", "mop", "nod", "open"), "same")))
    assert evaluate_fully(noisy, split="val", out=tmp_path, **NEIGHBOR).record["pretraining"]["overlap"] is None


def test_classes_without_a_usable_video_are_not_scored(make_store: Callable[..., Any], tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", failed=[f"mop/{i:03d}" for i in range(8)])
    store.write_label_overlap(finding({"lift": "same", "mop": "same", "nod": "none", "open": "none"}))
    overlap = evaluate_fully(store, out=tmp_path, **NEIGHBOR).record["pretraining"]["overlap"]
    assert overlap["same"] == ["lift"]


def test_the_commands_say_it(noisy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    noisy.write_label_overlap(finding({"lift": "same", "mop": "near", "nod": "none", "open": "none"}))
    line = r"pretraining (unknown) saw 2 of 4 classes by name (k\x1b.txt): lift, mop"

    def call(*arguments: object) -> str:
        with pytest.raises(SystemExit) as leaving:
            run_command(cli, [str(argument) for argument in arguments])
        assert leaving.value.code == 0
        return capsys.readouterr().out

    common = ("--features", noisy.path, "--way", 3, "--episodes", 40)
    out = call("evaluate", *common, "--variant", "neighbor", "--json", "e.json")
    assert line in out
    assert "accuracy on the 2 overlapping classes " in out
    assert "accuracy on the 2 other classes " in out
    assert json.loads(Path("e.json").read_text())["pretraining"]["overlap"]["near"] == ["mop"]
    assert call("compare", *common, "--methods", "protonet").count(line) == 1
    out = call("ablate", *common, "--train-episodes", 16, "--batch", 8, "--val-episodes", 10)
    assert line in out


@pytest.mark.parametrize(
    ("data", "words"),
    [(["Kinetics-700", "STAIR"], "pretraining (Kinetics-700, STAIR): not compared"), ([], None), (None, None)],
)
def test_words_where_nobody_compared(data: Any, words: str | None) -> None:
    lines = pretraining_lines({"pretraining": {"data": data, "overlap": None}})
    assert [line.startswith(words or "") for line in lines] == ([True] if words else [])
