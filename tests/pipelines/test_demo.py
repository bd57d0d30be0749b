"""`mastaf demo`: the whole of it on the embedded data set, and the controls that show that its number means motion."""

import json
from pathlib import Path

import pytest

CHANCE = 0.2


@pytest.fixture(scope="module")
def demo(small_motion, tmp_path_factory) -> tuple[Path, dict]:
    """Output folder and report of a small demo."""
    from mastaf.pipelines.demo import run_demo

    out = tmp_path_factory.mktemp("demo") / "out"
    report = run_demo(out=out, root=small_motion, shots=(1,), episodes=1000, train_episodes=96, workers=None, seed=0)
    return out, report


def _record(demo: tuple[Path, dict], control: str) -> dict:
    (record,) = demo[1]["controls"][control]
    return record


def test_the_ablation_has_its_four_rows_on_the_same_episodes(demo) -> None:
    rows = demo[1]["rows"]
    assert [row["variant"] for row in rows] == ["neighbor", "self", "cross", "full"]
    assert len({row["episode_list"] for row in rows}) == 1
    assert all(row["way"] == 5 and row["episodes"] == 1000 and row["split"] == "test" for row in rows)


def test_controls_answer_the_same_episodes_as_the_ablation(demo) -> None:
    lists = {records[0]["episode_list"] for records in demo[1]["controls"].values()}
    assert lists == {demo[1]["rows"][0]["episode_list"]}


def test_motions_never_seen_in_training_are_recognised(demo) -> None:
    for row in demo[1]["rows"]:
        low, _ = row["ci95_clustered"]
        assert low > 2 * CHANCE


def test_a_frozen_frame_leaves_chance(demo) -> None:
    """A class is its motion alone: where none is left, no interval may exclude chance."""
    low, high = _record(demo, "frozen frame")["ci95_clustered"]
    assert low <= CHANCE <= high
    assert abs(_record(demo, "frozen frame")["accuracy"] - CHANCE) < 0.06


def test_training_and_the_order_of_frames_both_matter(demo) -> None:
    neighbor = demo[1]["rows"][0]["accuracy"]
    assert _record(demo, "random weights")["accuracy"] < neighbor - 0.2
    assert _record(demo, "shuffled frames")["accuracy"] < neighbor - 0.05


def test_the_report_is_written_for_people_and_for_programs(demo) -> None:
    out, report = demo
    assert json.loads((out / "demo.json").read_text()) == json.loads(json.dumps(report))
    text = (out / "demo.md").read_text()
    for row in report["rows"]:
        assert f"{100 * row['accuracy']:.1f} +- {100 * row['ci95']:.1f}" in text
    for name in report["controls"]:
        assert name in text


def test_it_ends_with_a_page_whose_pictures_show(demo, browser_page) -> None:
    """Frames of queries and supports, and attention over them."""
    visit = browser_page((demo[0] / "report.html").as_uri(), width=390)
    pictures = visit.page.locator(".mistake img")
    sizes = pictures.evaluate_all("all => all.map(one => [one.complete, one.naturalWidth, one.naturalHeight])")
    assert len(sizes) >= 3 * 3
    assert {tuple(size) for size in sizes} == {(True, 4 * 64, 64)}
    assert visit.page.locator(".mistake p", has_text="Attention of the query").count()
    assert not visit.is_too_wide
    assert visit.errors == []


def test_another_seed_in_the_same_folder_is_another_run(mastaf, demo, small_motion) -> None:
    out, _ = demo
    status, said, _ = mastaf(
        "demo", "--out", out, "--root", small_motion, "--shot", "1", "--episodes", 500, "--train-episodes", 32,
        "--seed", 1,
    )  # fmt: skip
    assert status == 0
    assert "500 episodes" in said


@pytest.mark.parametrize("shots", ["0", "one", "1,,5", ""])
def test_shots_that_are_no_numbers_are_refused(mastaf, shots, tmp_path) -> None:
    status, _, complaint = mastaf("demo", "--out", tmp_path, "--shot", shots)
    assert status == 2
    assert "positive numbers" in complaint
