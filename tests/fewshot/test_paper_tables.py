"""The paper's tables rebuilt from records: published numbers come back, ours stand beside, strangers do no harm."""

import csv
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.extract.splits.table import load_split
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate
from mastaf.fewshot.records import Predictions, write_result
from mastaf.fewshot.statistics.found_records import find_records
from mastaf.fewshot.statistics.paper_tables import fill_table
from mastaf.fewshot.statistics.paper_text import paper_text
from mastaf.fewshot.statistics.published import NOTE, NOTE_PRETRAINED, TEST_SPLITS, find_published

pytestmark = pytest.mark.usefixtures("one_thread")
Call = Callable[..., tuple[int, str, str]]
CLASSES = {"test": ("lift", "mop", "nod", "open", "pull")}
R3D: dict[str, Any] = {"backbone": "r3d", "cube_shape": (2048, 1, 7, 7), "size": 224}
WHOLE: dict[str, Any] = {"classes": 21, "coverage": {"videos": 2745, "failed": 0, "missing": 0}}
OVERLAP: dict[str, Any] = {
    "same": ["lift"],
    "near": ["mop"],
    "none": ["nod"],
    "labels": {"file": "k.txt", "sha256": "ab" * 32, "n": 400},
    "rule": "x",
    "accuracy": {
        "overlapping": {"classes": 2, "queries": 9, "accuracy": 0.5, "ci95_clustered": [0.2, 0.8]},
        "other": None,
    },
}
# As the paper prints them, again: a slip in the one is not in the other.
PAPER = {
    1: """
TSN++|-|-|34.4|43.8
CMN-J|36.2|48.8|-|-
FEAT|-|-|45.3|61.2
OTAM|-|-|42.8|52.3
PAL|-|-|46.4|62.6
TRX|36.0|59.1|42.0|64.6
MASTAF-{TSN}|37.5|50.2|46.9|62.4
Baseline-{R3D}|24.9|36.1|25.6|39.8
MatchingNet-{R3D}|34.1|45.2|43.2|54.4
TRX-{R3D}|26.1|47.0|34.9|58.9
MASTAF-{R3D}|39.9|52.2|50.3|66.7
TRX-{ViViT}|34.7|-|42.7|-
MASTAF-{ViViT}|45.6|-|60.7|-""",
    2: """
FEAT|83.9|94.5|60.4|75.2
PAL|85.3|95.2|60.9|75.8
TRX|-|96.1|-|75.6
MASTAF-{TSN}|79.3|90.3|54.8|67.7
ProtoGAN|57.8|80.2|34.7|54.0
ARN|66.3|83.1|45.5|60.6
Baseline-{R3D}|53.4|88.7|40.1|68.1
MatchingNet-{R3D}|82.7|93.5|61.8|75.6
TRX-{R3D}|82.5|94.1|57.0|74.3
MASTAF-{R3D}|90.6|97.6|67.9|81.2
TRX-{ViViT}|84.8|-|58.1|-
MASTAF-{ViViT}|91.6|-|69.5|-""",
    3: """
MASTAF-Neighbor|82.7|43.2
MASTAF-Self|90.3|49.4
MASTAF-Cross|90.5|49.2
MASTAF|90.6|50.3""",
}


def parsed(text: str) -> list[list[str]]:
    """The cells of the first Markdown table in a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.fixture(scope="module")
def evaluated(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A record of Neighbor on R3D cubes of five classes of UCF101, and the folder of its run."""
    folder = tmp_path_factory.mktemp("evaluated")
    store = make_store(folder / "u.zarr", split_classes=CLASSES, separation=0.01, dataset="ucf101", **R3D)
    keywords = {"variant": "neighbor"}
    record = evaluate(store, method_keywords=keywords, episodes=40, out=folder / "a", progress=False)
    return record, folder / "a"


@pytest.fixture
def scored(evaluated: tuple[dict[str, Any], Path], tmp_path: Path) -> dict[str, Any]:
    """That record, in runs/a/results."""
    record, folder = evaluated
    shutil.copytree(folder, tmp_path / "runs" / "a")
    return record


def put(folder: Path, record: dict[str, Any], *, right: int = 20, **changed: Any) -> Path:
    """A record of another run, whose first `right` episodes are answered right."""
    facts = {k: v for k, v in (record | changed).items() if k not in ("schema", "predictions")}
    e, way = facts["episodes"], facts["way"]
    correct = np.arange(e) < right  # [e]
    zero = np.zeros(e, dtype=np.int64)
    predictions = Predictions(
        np.arange(e), zero, zero, (~correct).astype(np.int64), np.zeros((e, way)), np.zeros((e, way), int), ("a",)
    )
    own = {"accuracy": correct.mean(), "ci95": 1.96 * correct.std(ddof=1) / e**0.5}
    path = folder / "results" / f"{len(list(folder.rglob('*')))}"
    write_result(path, predictions, **facts | own | {k: v for k, v in changed.items() if k in own})
    return path.with_suffix(".json")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_empty_table_has_the_published_numbers_alone(number: int, tmp_path: Path, call: Call) -> None:
    (tmp_path / "runs").mkdir()
    status, out, _ = call("table", "--paper", number, "--json", "t.json", "--out", "t.md")
    assert status == 0
    wanted = [line.split("|") for line in PAPER[number].strip().splitlines()]
    assert [[line[0], *(cell or "-" for cell in line[2::3])] for line in parsed(out)] == wanted
    assert {cell for line in parsed(out) for n, cell in enumerate(line) if n > 2 and n % 3 != 2} == {""}
    assert Path("t.md").read_text() == out
    cells = json.loads(Path("t.json").read_text())["cells"]
    flat = [cell for line in wanted for cell in line[1:]]
    assert [cell["published"] for cell in cells] == [None if c == "-" else pytest.approx(float(c) / 100) for c in flat]
    assert {cell["ours"] for cell in cells} == {None}


def test_ours_stands_beside_with_interval_and_difference(scored: dict[str, Any], call: Call) -> None:
    status, out, _ = call("table", "--paper", 3, "--json", "t.json")
    assert status == 0
    line = parsed(out)[0]
    accuracy, half = 100 * scored["accuracy"], 100 * scored["ci95"]
    ours = f"{accuracy:.1f} +- {half:.1f} (5 of 21 classes) (40 of 2745 videos)"
    assert line[2:5] == ["82.7", ours, f"{accuracy - 82.7:+.1f}"]
    assert line[5:] == ["43.2", "", ""]
    assert NOTE in out
    cell = json.loads(Path("t.json").read_text())["cells"][0]
    assert cell["difference"] == pytest.approx(scored["accuracy"] - 0.827)
    assert cell["ci95_clustered"] == scored["ci95_clustered"]
    assert (cell["stamps"], cell["other_records"]) == (["5 of 21 classes", "40 of 2745 videos"], 0)


def test_what_is_shown_of_several_does_not_depend_on_accuracy(scored: dict[str, Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for changed in ({"selected_on": "test"}, {"adapter": True}, {"precision": "bf16"}, {"episodes": 39}):
        put(runs / "b", scored, right=39, **changed)
    filled = fill_table(3, *find_records(runs))
    cell = filled.cells[0][0]
    assert not filled.refused
    assert cell.ours is not None
    assert cell.ours.record.accuracy == scored["accuracy"] < 0.97
    assert cell.others == 4
    assert "4 more records" in paper_text(filled, runs)


@pytest.mark.parametrize(
    ("changed", "stamp"),
    [
        ({"selected_on": "test"}, "(selected on test)"),
        ({"adapter": True}, "(adapter)"),
        ({"precision": "bf16"}, "(bf16)"),
        ({"preset": "a|b"}, "(preset a/b)"),
        ({"frames": 8}, "(8 frames)"),
        ({"size": 200}, "(size 200)"),
        ({"classes": 5}, "(5 of 21 classes)"),
        ({"coverage": {"videos": 50, "failed": 2, "missing": 3}}, "(50 of 2745 videos) (2 failed) (3 missing)"),
        (
            {"pretraining": {"data": ["K"], "overlap": OVERLAP}},
            "(pretraining saw 2 of 3 classes)",
        ),
    ],
)
def test_what_must_not_be_overlooked_is_stamped(
    scored: dict[str, Any], tmp_path: Path, call: Call, changed: dict[str, Any], stamp: str
) -> None:
    put(tmp_path / "other", scored, **WHOLE | changed)
    status, out, _ = call("table", "--paper", 3, "--runs", "other")
    assert status == 0
    ours = parsed(out)[0][3]
    assert ours[ours.index(" (") + 1 :] == stamp
    known = changed.get("pretraining", {}).get("overlap")
    assert ("is not known for 1 of 1 numbers; see mastaf-extract --labels" in out) == (known is None)


@pytest.mark.parametrize(
    "changed",
    [
        {"split": "val"},
        {"way": 4},
        {"shot": 5},
        {"dataset": "motion"},
        {"backbone": "r3d-tiny"},
        {"seen_classes": ["lift"]},
        {"episodes_from": "source-disjoint"},
        {"trained_on": {"dataset": "hmdb51", "split_scheme": "x", "store": "another"}},
        {"variant": "neighbor/no-residual"},
        {"method": "protonet", "variant": None},
        {"random_weights": True},
        {"layer": "layer3"},
        {"time": "mean"},
        {"cube_shape": [2048, 1, 4, 4]},
        {"cube_shape": [2048, 2, 7, 7]},
        {"method": "trx", "variant": None, "backbone": "tsn", "layer": "stage4", "time": "mean"},
    ],
)
def test_records_of_something_else_are_in_no_cell(
    scored: dict[str, Any], tmp_path: Path, changed: dict[str, Any]
) -> None:
    put(tmp_path / "other", scored, **changed)
    for number in (1, 2, 3):
        filled = fill_table(number, *find_records(tmp_path / "other"))
        assert (len(filled.read), filled.refused, filled.filled) == (1, [], [])


@pytest.mark.parametrize(
    ("method", "time", "t", "shown"),
    [
        ("mastaf", "mean", 1, True),
        ("mastaf", "keep", 8, False),
        ("trx", "keep", 8, True),
        ("trx", "mean", 1, False),
        ("feat", "keep", 8, True),
        ("feat", "mean", 1, True),
        ("pal", "mean", 8, False),
    ],
)
def test_each_method_has_the_cubes_that_the_paper_gave_it(
    scored: dict[str, Any], method: str, time: str, t: int, shown: bool
) -> None:
    variant = "full" if method == "mastaf" else None
    own = {"method": method, "variant": variant, "backbone": "tsn", "layer": "stage4", "dataset": "hmdb51", "shot": 5}
    record = scored | own | {"time": time, "cube_shape": [2048, t, 7, 7]}
    assert (find_published(record) is not None) == shown


def test_an_empty_table_says_what_was_read_and_why_none_of_it_fits(
    scored: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    for changed in ({"random_weights": True}, {"size": 112, "cube_shape": [2048, 1, 4, 4]}, {"backbone": "r3d-tiny"}):
        put(tmp_path / "other", scored, **changed)
    out = call("table", "--paper", 3, "--runs", "other", "--json", "t.json")[1]
    assert "3 records read, none fits (data sets: ucf101; backbones: r3d, r3d-tiny)." in out
    assert "Not shown: 1 record of random weights." in out
    assert "Not shown: 1 record of other cubes than the paper's." in out
    saved = json.loads(Path("t.json").read_text())
    assert (saved["read"], sum(saved["unlike"].values())) == (3, 2)
    (tmp_path / "none").mkdir()
    assert "0 records read." in call("table", "--paper", 3, "--runs", "none")[1]
    assert "records read" not in call("table", "--paper", 3)[1]


def test_the_folder_of_results_itself_may_be_named(
    scored: dict[str, Any], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "runs" / "a" / "results")
    assert parsed(call("table", "--paper", 3, "--runs", ".")[1])[0][3].startswith(f"{100 * scored['accuracy']:.1f} ")


def spoil_sha256(npz: Path) -> None:
    npz.write_bytes(npz.read_bytes() + b"x")


def make_pipe(npz: Path) -> None:
    npz.unlink()
    os.mkfifo(npz)


def make_link(npz: Path) -> None:
    npz.symlink_to(npz.rename(npz.with_suffix(".moved")))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (Path.unlink, "No such file"),
        (spoil_sha256, "sha256 differs"),
        (make_pipe, "must be a plain file"),
        (make_link, "the predictions of"),
    ],
)
def test_a_score_without_its_predictions_is_left_out_and_the_next_one_shown(
    scored: dict[str, Any], tmp_path: Path, call: Call, spoil: Callable[[Path], Any], words: str
) -> None:
    best = put(tmp_path / "runs" / "b", scored, right=39, episodes=50)
    spoil(best.with_suffix(".npz"))
    status, out, _ = call("table", "--paper", 3)
    assert status == 1
    (left,) = [line for line in out.splitlines() if line.startswith("left out: ")]
    assert words in left
    assert best.name in left or best.stem in left
    assert parsed(out)[0][3].startswith(f"{100 * scored['accuracy']:.1f} ")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"accuracy": 0.6}, "accuracy and ci95 do not follow"),
        ({"ci95": 0.001}, "accuracy and ci95 do not follow"),
        ({"episodes": 80}, "is not of 80 5-way episodes"),
        ({"episodes": 20}, "has 40 episodes, but its record says 20"),
    ],
)
def test_a_score_must_follow_from_its_predictions(
    scored: dict[str, Any], tmp_path: Path, call: Call, changed: dict[str, Any], words: str
) -> None:
    path = put(tmp_path / "other", scored)
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    status, out, _ = call("table", "--paper", 3, "--runs", "other")
    assert status == 1
    assert f"left out: {path.relative_to(tmp_path)}" in out or f"left out: {path.parent.relative_to(tmp_path)}" in out
    assert words in out
    assert "1 record read, none fits" in out


def test_predictions_that_unpack_to_more_than_memory_are_left_out(
    scored: dict[str, Any], tmp_path: Path, call: Call
) -> None:
    path = put(tmp_path / "other", scored)
    npz = path.with_suffix(".npz")
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("logits.npy", "w") as member:
        for _ in range(2**8 + 1):
            member.write(bytes(2**20))
    value = json.loads(path.read_text())
    value["predictions"]["sha256"] = hashlib.sha256(npz.read_bytes()).hexdigest()
    path.write_text(json.dumps(value))
    status, out, _ = call("table", "--paper", 3, "--runs", "other")
    assert status == 1
    assert "unpacks to more than" in out


def test_hostile_files_are_named_and_left_out(scored: dict[str, Any], tmp_path: Path, call: Call) -> None:
    runs = tmp_path / "runs"
    bad = runs / "bad" / "results"
    bad.mkdir(parents=True)
    texts = {
        "nan": json.dumps(scored | {"accuracy": 0}).replace('"accuracy": 0', '"accuracy": NaN'),
        "two": json.dumps(scored | {"accuracy": 2}),
        "schema": json.dumps(scored | {"schema": 2}),
        "fields": json.dumps({"schema": scored["schema"]}),
        "deep": "[" * 100_000,
        "huge": json.dumps(scored) + " " * 2**20,
        "interval": json.dumps(scored | {"ci95_clustered": [0, 10**400]}),
        "one": json.dumps(scored | {"ci95_clustered": ["0"]}),
        "empty": "",
        "list": "[]",
        "coverage": json.dumps(scored | {"coverage": {"videos": "many", "failed": 0, "missing": 0}}),
        "overlap": json.dumps(scored | {"pretraining": {"data": None, "overlap": {"same": 3}}}),
        "away": json.dumps(scored | {"predictions": {"path": "../x.npz", "sha256": "0" * 64}}),
    }
    for name, text in texts.items():
        (bad / f"{name}.json").write_text(text)
    (bad / "\x1b[31m.json").write_text("{")
    (bad / "latin.json").write_bytes(b"\xff\xfe")
    (bad / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(bad / "pipe.json")
    (runs / "loop").symlink_to(runs)
    status, out, _ = call("table", "--paper", 3)
    assert status == 1
    left = [line for line in out.splitlines() if line.startswith("left out: ")]
    assert len(left) == len(texts) + 3
    assert all(f"{name}.json" in out for name in texts)
    assert "\x1b" not in out
    assert parsed(out)[0][3].startswith(f"{100 * scored['accuracy']:.1f} ")
    with pytest.raises(FewShotError, match="is no folder; give --runs DIR"):
        find_records(tmp_path / "nowhere")


def test_an_ablation_of_the_command_line_fills_its_rows(tmp_path: Path, make_store: Any, call: Call) -> None:
    """Through files alone: what ablate left is found and placed."""
    classes = {"train": ("bow", "clap", "dig", "eat", "fold"), **CLASSES}
    store = make_store(tmp_path / "u.zarr", split_classes=classes, separation=0.01, dataset="ssv2-otam", **R3D)
    line = ("--train-episodes", 8, "--batch", 8, "--episodes", 10)
    assert call("ablate", "--features", store.path, *line)[0] == 0
    out = call("table", "--paper", 3)[1]
    rows = list(csv.DictReader(Path("runs/ablate_u/ablation_fusion_test.csv").read_text().splitlines()))
    ours = {f"{100 * float(row['accuracy']):.1f} +- {100 * float(row['ci95']):.1f}" for row in rows}
    assert [line[6].partition(" (")[0] in ours for line in parsed(out)] == [True] * 4
    assert [line[3] for line in parsed(out)] == [""] * 4


def test_published_numbers_are_found_for_their_own_backbone_alone(scored: dict[str, Any]) -> None:
    record = scored | {"variant": "full", "dataset": "hmdb51"}
    found = find_published(record)
    assert found is not None
    assert (found.value, found.table, found.row, found.note) == (67.9, 2, "MASTAF-{R3D}", NOTE)
    baseline = find_published(record | {"method": "baseline", "variant": None})
    assert baseline is not None
    assert (baseline.row, baseline.note) == ("Baseline-{R3D}", NOTE_PRETRAINED)
    for changed in (
        {"backbone": "r3d-tiny"},
        {"way": 4},
        {"split": "val"},
        {"variant": "full/no-residual"},
        {"random_weights": True},
        {"layer": "layer3"},
        # Published with another network than any that is here.
        {"method": "arn", "variant": None},
    ):
        assert find_published(record | changed) is None


def test_the_rows_that_the_paper_extracts_before_matching_say_so(tmp_path: Path, call: Call) -> None:
    (tmp_path / "runs").mkdir()
    out = call("table", "--paper", 2, "--json", "t.json")[1]
    assert f"Baseline-{{R3D}}, MatchingNet-{{R3D}}, TRX-{{R3D}}: {NOTE_PRETRAINED}." in out
    notes = {cell["row"]: cell["note"] for cell in json.loads(Path("t.json").read_text())["cells"]}
    assert {row for row, note in notes.items() if note != NOTE} == {
        "Baseline-{R3D}",
        "MatchingNet-{R3D}",
        "TRX-{R3D}",
    }


def test_the_published_splits_are_those_of_the_class_tables() -> None:
    tables = {"hmdb51": "hmdb51-arn", "ucf101": "ucf101-arn", "ssv2-cmn": "ssv2-cmn", "ssv2-otam": "ssv2-otam"}
    found = {name: load_split(scheme) for name, scheme in tables.items()}
    assert {name: (len(table.of("test")), table.n_videos("test")) for name, table in found.items()} == TEST_SPLITS


def test_random_weights_are_told_from_the_store(make_store: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr")
    for provenance, drawn in (
        ({}, False),
        ({"weights_source": "random (seed 3)", "weights_facts": {}}, True),
        ({"weights_source": "net.pth", "weights_facts": {"pretraining": []}}, True),
        ({"weights_source": "net.pth", "weights_facts": {"pretraining": ["Kinetics-700"]}}, False),
    ):
        store.header.provenance.clear()
        store.header.provenance.update(provenance)
        keywords: dict[str, Any] = {"method_keywords": {"variant": "neighbor"}, "way": 3, "episodes": 4}
        record = evaluate(store, out=tmp_path / "out", progress=False, **keywords)
        assert record["random_weights"] is drawn
    assert [record[name] for name in ("layer", "time", "frames", "size")] == ["layer4", "keep", 16, 112]
    assert (record["cube_shape"], record["classes"]) == (list(store.spec.cube_shape), 4)
