"""The paper's tables rebuilt from records: published numbers come back, ours stand beside, strangers do no harm."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate
from mastaf.fewshot.statistics.found_records import find_records
from mastaf.fewshot.statistics.paper_tables import fill_table, paper_text
from mastaf.fewshot.statistics.published import NOTE, find_published

pytestmark = pytest.mark.usefixtures("one_thread")
Call = Callable[..., tuple[int, str, str]]
CLASSES = {"test": ("lift", "mop", "nod", "open", "pull")}
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


@pytest.fixture
def scored(make_store: Any, tmp_path: Path) -> dict[str, Any]:
    """A record of Neighbor on R3D cubes of UCF101, in runs/a/results."""
    store = make_store(tmp_path / "u.zarr", split_classes=CLASSES, separation=0.7, dataset="ucf101", backbone="r3d")
    keywords = {"variant": "neighbor"}
    return evaluate(store, method_keywords=keywords, episodes=40, out=tmp_path / "runs" / "a", progress=False)


def put(folder: Path, record: dict[str, Any], **changed: Any) -> Path:
    """A record of a stranger, or of a run that would take long to make."""
    path = folder / "results" / f"{len(list(folder.rglob('*')))}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record | changed))
    return path


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
    assert line[2:5] == ["82.7", f"{accuracy:.1f} +- {half:.1f}", f"{accuracy - 82.7:+.1f}"]
    assert line[5:] == ["43.2", "", ""]
    assert NOTE in out
    cell = json.loads(Path("t.json").read_text())["cells"][0]
    assert cell["difference"] == pytest.approx(scored["accuracy"] - 0.827)
    assert cell["ci95_clustered"] == scored["ci95_clustered"]
    assert (cell["stamps"], cell["other_records"]) == ([], 0)


def test_what_is_shown_of_several_does_not_depend_on_accuracy(scored: dict[str, Any], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for changed in (
        {"accuracy": 1.0, "selected_on": "test"},
        {"accuracy": 1.0, "adapter": True},
        {"accuracy": 1.0, "precision": "bf16"},
        {"accuracy": 1.0, "episodes": 39},
    ):
        put(runs / "b", scored, **changed)
    records, refused = find_records(runs)
    cells = fill_table(3, records)
    assert not refused
    assert cells[0][0].ours is not None
    assert cells[0][0].ours.record.accuracy == scored["accuracy"]
    assert cells[0][0].others == 4
    assert "4 more records" in paper_text(3, cells, refused, runs)


@pytest.mark.parametrize(
    ("changed", "stamp"),
    [
        ({"selected_on": "test"}, "(selected on test)"),
        ({"adapter": True}, "(adapter)"),
        ({"precision": "bf16"}, "(bf16)"),
        ({"preset": "a|b"}, "(preset a/b)"),
    ],
)
def test_what_must_not_be_overlooked_is_stamped(
    scored: dict[str, Any], tmp_path: Path, call: Call, changed: dict[str, Any], stamp: str
) -> None:
    put(tmp_path / "other", scored, **changed)
    out = call("table", "--paper", 3, "--runs", "other")[1]
    assert parsed(out)[0][3].endswith(stamp)


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
    ],
)
def test_records_of_something_else_are_in_no_cell(
    scored: dict[str, Any], tmp_path: Path, changed: dict[str, Any]
) -> None:
    put(tmp_path / "other", scored, **changed)
    records, refused = find_records(tmp_path / "other")
    assert (len(records), refused) == (1, [])
    assert not [cell for line in fill_table(3, records) for cell in line if cell.ours]


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
        "away": json.dumps(scored | {"predictions": {"path": "../x.npz", "sha256": "0" * 64}}),
    }
    for name, text in texts.items():
        (bad / f"{name}.json").write_text(text)
    (bad / "\x1b[31m.json").write_text("{")
    (bad / "latin.json").write_bytes(b"\xff\xfe")
    (bad / "link.json").symlink_to("/etc/passwd")
    (runs / "loop").symlink_to(runs)
    status, out, _ = call("table", "--paper", 3)
    assert status == 1
    left = [line for line in out.splitlines() if line.startswith("left out: ")]
    assert len(left) == len(texts) + 2
    assert all(f"{name}.json" in out for name in texts)
    assert "\x1b" not in out
    assert parsed(out)[0][3].startswith(f"{100 * scored['accuracy']:.1f} ")
    with pytest.raises(FewShotError, match="is no folder; give --runs DIR"):
        find_records(tmp_path / "nowhere")


def test_an_ablation_of_the_command_line_fills_its_rows(tmp_path: Path, make_store: Any, call: Call) -> None:
    """Through files alone: what ablate left is found and placed."""
    classes = {"train": ("bow", "clap", "dig", "eat", "fold"), **CLASSES}
    store = make_store(tmp_path / "u.zarr", split_classes=classes, separation=0.7, dataset="ssv2-otam", backbone="r3d")
    line = ("--train-episodes", 8, "--batch", 8, "--episodes", 30)
    assert call("ablate", "--features", store.path, *line)[0] == 0
    out = call("table", "--paper", 3)[1]
    rows = list(csv.DictReader(Path("runs/ablate_u/ablation_fusion_test.csv").read_text().splitlines()))
    ours = {f"{100 * float(row['accuracy']):.1f} +- {100 * float(row['ci95']):.1f}" for row in rows}
    assert [line[6] in ours for line in parsed(out)] == [True] * 4
    assert [line[3] for line in parsed(out)] == [""] * 4


def test_published_numbers_are_found_for_their_own_backbone_alone() -> None:
    asked: dict[str, Any] = {"method": "mastaf", "variant": "full", "dataset": "hmdb51", "shot": 1, "way": 5}
    found = find_published(**asked, backbone="r3d")
    assert found is not None
    assert (found.value, found.table, found.row) == (67.9, 2, "MASTAF-{R3D}")
    assert find_published(**asked, backbone="r3d-tiny") is None
    assert find_published(**{**asked, "way": 4}, backbone="r3d") is None
    assert find_published(**{**asked, "variant": "full/no-residual"}, backbone="r3d") is None
    # Published with another network than any that is here.
    assert find_published(**{**asked, "method": "arn", "variant": None}, backbone="r3d") is None
