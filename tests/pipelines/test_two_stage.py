"""`mastaf two-stage`: one command from a folder of videos to a number."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from mastaf.cache.store import open_store

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_videos.py"


def test_a_folder_with_train_and_test_classes_is_extracted_trained_and_scored(videos, mastaf, tmp_path) -> None:
    root = videos(train=("shake", "grow", "pong"), test=("rock", "chase", "stop_go"))
    status, said, _ = mastaf(
        "two-stage", "--root", root, "--out", tmp_path / "out", "--train-episodes", 64, "--episodes", 200,
        "--json", tmp_path / "result.json",
    )  # fmt: skip
    assert status == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["done"] == 3 * 4 + 3 * 8
    record = result["result"]
    assert (record["method"], record["variant"], record["way"], record["split"]) == ("mastaf", "full", 3, "test")
    assert record["selected_on"] == "none"  # there are no val classes
    assert f"{100 * record['accuracy']:.1f} +- {100 * record['ci95']:.1f} %" in said
    assert open_store(Path(result["store"])).digest == record["store"]


def test_running_it_again_does_nothing_again_and_gives_the_same_number(videos, mastaf, tmp_path) -> None:
    root = videos(train=("shake", "grow"), test=("rock", "chase"))
    command = ("two-stage", "--root", root, "--out", tmp_path / "out", "--train-episodes", 32, "--episodes", 100)
    first = mastaf(*command, "--json", tmp_path / "first.json")
    again = mastaf(*command, "--json", tmp_path / "again.json")
    assert first[0] == again[0] == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("first.json", "again.json"))
    assert two["done"] == 0
    assert two["skipped"] == one["done"]
    assert one["result"]["accuracy"] == two["result"]["accuracy"]
    assert one["result"]["predictions"]["sha256"] == two["result"]["predictions"]["sha256"]


def test_a_flat_folder_scores_neighbor_and_a_broken_video_is_named(videos, mastaf, tmp_path) -> None:
    root = videos(flat=("rock", "chase", "teleport"))
    (root / "rock" / "broken.mp4").write_text("no video")
    status, said, _ = mastaf("two-stage", "--root", root, "--out", tmp_path / "out", "--episodes", 100)
    assert status == 1  # finished, but a video failed
    assert "broken.mp4" in said
    assert "Neighbor" in said
    assert "3-way 1-shot accuracy on test classes" in said


def test_links_out_of_the_root_are_followed_when_asked(videos, mastaf, tmp_path) -> None:
    root = videos(flat=("rock", "chase"))
    (root / "rock").rename(tmp_path / "elsewhere")
    (root / "rock").symlink_to(tmp_path / "elsewhere")
    command = ("two-stage", "--root", root, "--out", tmp_path / "out", "--episodes", 100)
    status, _, complaint = mastaf(*command)
    assert (status, "only one class, 'chase'" in complaint) == (2, True)
    status, said, _ = mastaf(*command, "--follow-links")
    assert (status, "2-way 1-shot accuracy" in said) == (0, True)


def test_val_classes_are_scored_where_there_are_no_test_classes_and_nothing_is_selected_on_them(
    videos, mastaf, tmp_path
) -> None:
    root = videos(train=("shake", "grow"), val=("pulse", "swap"))
    status, _, _ = mastaf(
        "two-stage", "--root", root, "--out", tmp_path / "out", "--train-episodes", 32, "--episodes", 100,
        "--json", tmp_path / "result.json",
    )  # fmt: skip
    assert status == 0
    record = json.loads((tmp_path / "result.json").read_text())["result"]
    assert (record["split"], record["selected_on"]) == ("val", "none")


@pytest.mark.parametrize(
    ("splits", "options", "words"),
    [
        ({"train": ("shake", "grow")}, (), "train classes alone"),
        ({"train": ("shake", "grow"), "test": ("rock", "chase")}, ("--way", 5), "way (5)"),
        ({"test": ("rock", "chase")}, ("--backbone", "r3d_tiny"), "did you mean r3d-tiny"),
        ({"test": ("rock", "chase")}, ("--dataset", "hmbd51"), "did you mean hmdb51"),
        ({"test": ("rock", "chase")}, ("--revision", "v1"), "revision (v1) is for weights of the hub"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(videos, mastaf, tmp_path, splits, options, words) -> None:
    root = videos(**splits)
    status, _, complaint = mastaf("two-stage", "--root", root, "--out", tmp_path / "out", *options)
    assert status == 2
    (line,) = [line for line in complaint.splitlines() if line.startswith("error: ")]
    assert words in line


def test_a_folder_that_does_not_exist_is_one_line_and_status_2(mastaf, tmp_path) -> None:
    status, _, complaint = mastaf("two-stage", "--root", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert status == 2
    assert "nowhere" in complaint
    assert not (tmp_path / "out").exists()


def test_the_example_in_python_runs(videos, tmp_path, monkeypatch, capsys) -> None:
    root = videos(flat=("rock", "chase", "teleport"))
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(root), str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "3-way 1-shot accuracy" in capsys.readouterr().out
