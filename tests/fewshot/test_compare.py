"""Methods side by side: the same episodes for all, the same numbers as alone, continued where it stopped."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.cache.store import open_store
from mastaf.fewshot.compare import Block, compare, rows_of
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate_fully
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.records import read_predictions
from mastaf.fewshot.statistics.compare_files import write_comparison
from mastaf.fewshot.statistics.compare_text import compare_text
from mastaf.fewshot.statistics.published import NOTE_PRETRAINED
from mastaf.fewshot.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
Call = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 16, "batch": 8, "val_episodes": 10, "episodes": 40}
LINE = ("--way", 3, "--train-episodes", 16, "--batch", 8, "--val-episodes", 10, "--episodes", 40)
FEW = ("mastaf", "mastaf:neighbor", "protonet", "simpleshot", "pal")


@pytest.fixture(scope="module")
def noisy(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_store(
        tmp_path_factory.mktemp("noisy") / "noisy.zarr", separation=0.7, dataset="hmdb51", backbone="r3d", videos=25
    )


@pytest.fixture(scope="module")
def block(noisy: Any, tmp_path_factory: pytest.TempPathFactory) -> Block:
    """Few methods at one and two shots."""
    out = tmp_path_factory.mktemp("few")
    (found,) = compare([noisy], methods=FEW, shots=(1, 2), out=out, progress=False, **SMALL)
    return found


def test_all_rows_of_a_shot_answer_the_same_episodes(block: Block) -> None:
    rows = block.compared.rows
    assert [(row.name, row.shot) for row in rows] == [(name, shot) for shot in (1, 2) for name in FEW]
    for shot in (1, 2):
        answers = [read_predictions(row.paths[0].with_suffix(".npz")) for row in rows if row.shot == shot]
        for other in answers[1:]:
            for name in ("episode", "query_row", "label", "classes"):
                np.testing.assert_array_equal(getattr(other, name), getattr(answers[0], name))
    assert len({row.record["episode_list"] for row in rows}) == 2


def test_each_is_held_against_mastaf_query_by_query(block: Block) -> None:
    compared = block.compared
    assert [(p.first, p.second, p.shot) for p in compared.pairs] == [
        (name, "mastaf", shot) for shot in (1, 2) for name in FEW[1:]
    ]
    right = {(row.name, row.shot): read_predictions(row.paths[0].with_suffix(".npz")).correct for row in compared.rows}
    for pair in compared.pairs:
        a, b = (right[name, pair.shot].astype(float) for name in (pair.first, pair.second))
        assert pair.difference.mean == pytest.approx(np.mean(a - b))
    assert max(p.difference.p_holm for p in compared.pairs) <= 1
    assert all(p.difference.p_holm >= p.difference.p for p in compared.pairs)


def test_the_numbers_are_those_of_train_and_evaluate(noisy: Any, block: Block, tmp_path: Path) -> None:
    """As a user gets them by hand; what the method was not asked for stays as published."""
    settings = {name: SMALL[name] for name in ("way", "train_episodes", "batch", "val_episodes")}
    for name, given in (("pal", settings), ("simpleshot", {"way": 3})):
        train(noisy, method=name, out=tmp_path / name, progress=False, **given)
        alone = evaluate_fully(noisy, tmp_path / name, episodes=40, progress=False)
        (row,) = (row for row in block.compared.rows if (row.name, row.shot) == (name, 1))
        same = {k: v for k, v in row.record.items() if k != "seconds"}
        assert same == {k: v for k, v in alone.record.items() if k != "seconds"}


def test_costs_and_published_numbers(block: Block) -> None:
    costs = {name: block.costs[name, 1] for name in FEW}
    assert [costs[name].parameters > 0 for name in FEW] == [True, False, False, False, True]
    assert all(cost.episodes_per_s > 0 for cost in costs.values())
    assert costs["pal"].flops > 0
    # The paper has five ways alone.
    assert not any(cost.published for cost in costs.values())


def test_published_numbers_are_marked_as_what_they_are(tmp_path: Path, make_store: Any) -> None:
    classes = {"test": ("lift", "mop", "nod", "open", "pull")}
    store = make_store(
        tmp_path / "five.zarr", split_classes=classes, dataset="hmdb51", backbone="r3d", cube_shape=(2048, 1, 7, 7)
    )
    (block,) = compare([store], methods=("all",), out=tmp_path / "out", progress=False, episodes=20)
    rows = {row.name: block.cost(row).published for row in block.compared.rows}
    assert {name: found.value for name, found in rows.items() if found} == {"matchingnet": 61.8, "baseline": 40.1}
    assert {found.name for found in block.compared.not_run} >= {"mastaf", "trx", "arn", "feat"}, "nothing to train on"
    text = compare_text([block])
    assert "61.8 (Table 2, MatchingNet-{R3D})" in text
    assert f"* matchingnet, baseline: {NOTE_PRETRAINED}" in text
    write_comparison(tmp_path / "c", [block])
    lines = {line["row"]: line for line in csv.DictReader((tmp_path / "c.csv").read_text().splitlines())}
    assert (lines["baseline"]["published"], lines["baseline"]["published_note"]) == ("0.401", NOTE_PRETRAINED)
    assert (lines["protonet"]["published"], lines["protonet"]["published_note"]) == ("", "")


def test_tables_for_people_and_for_programs(block: Block, tmp_path: Path) -> None:
    paths = write_comparison(tmp_path / "new" / "comparison", [block])
    assert [p.name for p in paths] == [f"comparison{end}" for end in (".csv", "_pairs.csv", ".json", ".md", ".png")]
    lines = list(csv.DictReader(paths[0].read_text().splitlines()))
    assert [(line["row"], int(line["shot"])) for line in lines] == [(r.name, r.shot) for r in block.compared.rows]
    assert [float(line["accuracy"]) for line in lines] == [row.accuracy for row in block.compared.rows]
    assert [line["minus"] == "" for line in lines] == [name == "mastaf" for name in FEW] * 2
    saved = json.loads(paths[2].read_text())["blocks"][0]
    assert [row["records"] for row in saved["rows"]] == [row.records for row in block.compared.rows]
    text = paths[3].read_text()
    assert text == compare_text([block]) + "\n"
    assert "noisy: data set hmdb51, cubes of 6 x 1 x 2 x 2 by r3d" in text
    for row in block.compared.rows:
        assert f"| {100 * row.accuracy:.1f} +- {100 * row.ci95:.1f} " in text
    assert paths[4].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_line_says_so(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mastaf.cache.extras.find_spec", lambda name: None)
    assert "comparison.png" not in [p.name for p in write_comparison(tmp_path / "comparison", [block])]
    assert "pip install 'mastaf[plots]'" in capsys.readouterr().out


def test_killed_and_run_again_it_continues(
    noisy: Any, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after two of four are scored: these are not scored again, nothing is trained again, numbers agree."""
    from mastaf.fewshot import row_runs

    line = ("compare", "--features", noisy.path, *LINE, "--methods", "mastaf,otam,protonet,pal", "--out", "out")
    real, scored = row_runs.evaluate_together, []

    def killed(banks: Any, runs: Any, **how: Any) -> Any:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(runs)
        return real(banks, runs, **how)

    with monkeypatch.context() as patch:
        patch.setattr(row_runs, "evaluate_together", killed)
        status, _, err = call(*line)
        assert (status, "the same command continues" in err) == (130, True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert len([path for path in before if path.suffix == ".npz"]) == 2
    status, out, err = call(*line)
    assert status == 0, err
    changed = {path for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert not [path for path in changed if path.suffix in (".safetensors", ".npz", ".json", ".jsonl")]
    whole = call(*line[:-1], "whole")[1]
    accuracies = re.findall(r"\| (\w+) +\| (\d+\.\d \+- \d+\.\d) ", whole)
    assert [name for name, _ in accuracies] == ["mastaf", "otam", "protonet", "pal"]
    assert re.findall(r"\| (\w+) +\| (\d+\.\d \+- \d+\.\d) ", out) == accuracies


def test_what_was_scored_is_scored_again_when_anything_differs(noisy: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"methods": ("protonet",), "out": tmp_path, "progress": False, **SMALL}
    (row,) = compare([noisy], **asked)[0].compared.rows
    first = row.paths[0].stat().st_mtime_ns
    proof = row.paths[0].with_suffix(".scored")
    for spoil in (
        lambda: proof.write_text("{"),
        lambda: proof.unlink(),
        lambda: row.paths[0].with_suffix(".npz").write_bytes(b"x"),
        lambda: row.paths[0].write_text(row.paths[0].read_text().replace('"accuracy": ', '"accuracy": 0.')),
        lambda: proof.write_text(proof.read_text().replace('"weights": "', '"weights": "0')),
    ):
        spoil()
        (again,) = compare([noisy], **asked)[0].compared.rows
        assert again.paths == row.paths
        assert again.accuracy == row.accuracy
        assert again.paths[0].stat().st_mtime_ns > first
        first = again.paths[0].stat().st_mtime_ns
    (last,) = compare([noisy], **asked)[0].compared.rows
    assert last.paths[0].stat().st_mtime_ns == first


def test_what_a_store_cannot_have_is_a_row_of_all_and_an_error_by_name(
    noisy: Any, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("mastaf", "protonet", "pal")
    monkeypatch.setattr("mastaf.fewshot.compare.method_names", lambda: names)
    asked = (*LINE, "--query-mode", "single", "--out", "out")
    status, out, err = call("compare", "--features", noisy.path, *asked, "--json", "all.json")
    assert status == 0, err
    assert "| pal " in out
    assert "pal (1-shot) not run: query_mode ('single') must be 'per_class' for pal" in out
    (saved,) = json.loads(Path("all.json").read_text())["blocks"]
    assert [(line["row"], line["shot"]) for line in saved["not_run"]] == [("pal", 1)]
    lines = list(csv.DictReader(Path("out/comparison_test.csv").read_text().splitlines()))
    assert [line["row"] for line in lines if line["not_run"]] == ["pal"]
    status, _, err = call("compare", "--features", noisy.path, *asked, "--methods", "mastaf,pal")
    assert status == 2
    assert "must be 'per_class' for pal" in err
    # A name beside `all` was named all the same.
    monkeypatch.setattr("mastaf.fewshot.compare.method_names", lambda: ("mastaf",))
    status, _, err = call("compare", "--features", noisy.path, *asked, "--methods", "all,pal")
    assert (status, "must be 'per_class' for pal" in err) == (2, True)


def test_what_fails_is_a_row_of_all_and_status_1(noisy: Any, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mastaf.fewshot.compare.method_names", lambda: ("mastaf",))
    line = ("compare", "--features", noisy.path, *LINE, "--lr", 1e30)
    status, out, err = call(*line, "--json", "all.json")
    assert status == 1, err
    assert "mastaf (1-shot) not run: the loss is nan at update 2" in out
    (saved,) = json.loads(Path("all.json").read_text())["blocks"]
    assert [(absent["row"], absent["failed"]) for absent in saved["not_run"]] == [("mastaf", True)]
    assert call(*line, "--methods", "mastaf")[0] == 2


def test_all_works_on_cubes_without_time(tmp_path: Path, make_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """t = 1: every method of the table but two that take minutes whatever the store."""
    names = tuple(name for name in METHODS if name not in ("protogan", "arn"))
    monkeypatch.setattr("mastaf.fewshot.compare.method_names", lambda: names)
    store = make_store(tmp_path / "t1.zarr", cube_shape=(8, 1, 2, 2))
    small: dict[str, Any] = {"way": 3, "train_episodes": 2, "batch": 1, "val_episodes": 2, "episodes": 4}
    (block,) = compare([store], out=tmp_path / "out", progress=False, **small)
    assert [row.name for row in block.compared.rows if row.name != "mastaf:neighbor"] == [
        name for name in names if name not in {found.name for found in block.compared.not_run}
    ]
    # Fifteen queries of each class are more than there are: named, with the reason.
    assert {found.name for found in block.compared.not_run} <= {"feat"}
    assert all("video" in found.reason for found in block.compared.not_run)


def test_settings_that_cannot_be_are_an_error_though_all_was_asked(noisy: Any, tmp_path: Path) -> None:
    """Not a table of rows that were left out; what holds other runs is not written over."""
    with pytest.raises(FewShotError, match=r"lr \(inf\)"):
        compare([noisy], out=tmp_path, progress=False, lr=float("inf"), **SMALL)
    assert not list(tmp_path.iterdir())
    compare([noisy], methods=("mastaf",), out=tmp_path, progress=False, **SMALL)
    with pytest.raises(FewShotError, match="holds a run of other settings"):
        compare([noisy], out=tmp_path, progress=False, **{**SMALL, "train_episodes": 24})


def test_stores_of_the_same_videos_share_their_lists(noisy: Any, tmp_path: Path, make_store: Any, call: Call) -> None:
    other = make_store(tmp_path / "other.zarr", separation=0.7, videos=25, cube_shape=(4, 2, 1, 1), seed=3)
    less = make_store(tmp_path / "less.zarr", separation=0.7, videos=25, failed=["mop/003"])
    asked: dict[str, Any] = {"methods": ("mastaf:neighbor", "protonet"), "progress": False, **SMALL}
    blocks = compare([noisy, other], out=tmp_path / "a", **asked)
    assert [block.name for block in blocks] == ["noisy", "other"]
    assert len({row.record["episode_list"] for block in blocks for row in block.compared.rows}) == 1
    assert "their episodes differ" not in compare_text(blocks)
    assert [block.compared.base for block in blocks] == ["mastaf:neighbor"] * 2
    status, out, err = call("compare", "--features", noisy.path, other.path, "--methods", "protonet", *LINE)
    assert status == 0, err
    assert out.count("| protonet ") == 2
    assert Path("runs/compare_noisy_other/comparison_test.csv").is_file()
    blocks = compare([noisy, less], out=tmp_path / "a", **asked)
    assert "their episodes differ" in compare_text(blocks)
    assert compare_text(blocks).count("videos left out: 1 failed") == 1
    with pytest.raises(FewShotError, match="named twice"):
        compare([noisy, open_store(noisy.path)], out=tmp_path / "a", **asked)


def test_seeds_and_their_spread(noisy: Any, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"methods": ("mastaf", "pal"), "seeds": 2, "seed": 3, "out": tmp_path, **SMALL}
    (block,) = compare([noisy], progress=False, **asked)
    assert [[record["seed"] for record in row.records] for row in block.compared.rows] == [[3, 4], [3, 4]]
    assert "between seeds" in compare_text([block])


def test_rows_that_train_nothing_by_episodes_have_no_precision_of_training_and_no_spread(
    noisy: Any, tmp_path: Path
) -> None:
    methods = ("mastaf", "mastaf:neighbor", "simpleshot")
    asked: dict[str, Any] = {"methods": methods, "seeds": 2, "out": tmp_path, "train_precision": "bf16", **SMALL}
    (block,) = compare([noisy], progress=False, **asked)
    assert [row.record["train_precision"] for row in block.compared.rows] == ["bf16", None, None]
    text = compare_text([block])
    assert "trained in bf16" in text
    assert text.count("between seeds") == 1


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        (("mastaff",), "did you mean mastaf"),
        (("mastaf", "mastaf"), "named twice"),
        (("all", "trx"), "named twice"),
        (("all", "trxx"), "did you mean trx"),
        ((), "methods must be all, or names"),
        (("mastaf:",), "must be NAME or NAME:VARIANT"),
    ],
)
def test_names_that_make_no_rows(methods: tuple[str, ...], words: str) -> None:
    with pytest.raises(FewShotError, match=words):
        rows_of(methods)


def test_a_variant_of_a_method_without_any_is_said_so(noisy: Any, tmp_path: Path) -> None:
    with pytest.raises(FewShotError, match="protonet has no variants; leave 'foo' out"):
        compare([noisy], methods=("protonet:foo",), out=tmp_path, progress=False, **SMALL)


def test_a_checkpoint_of_another_method_is_named_with_the_one_that_was_asked_for(
    block: Block, noisy: Any, call: Call
) -> None:
    run = block.compared.rows[2].paths[0].parent.parent
    line = ("evaluate", "--features", noisy.path, "--checkpoint", run, "--episodes", 10)
    status, _, err = call(*line, "--method", "trx")
    assert status == 2
    assert "is of method 'protonet', but method 'trx' was asked for" in err
    assert call(*line, "--method", "protonet", "--out", "here")[0] == 0


def test_training_a_method_without_parameters_says_so_and_can_be_evaluated(toy_store: Any, call: Call) -> None:
    status, out, _ = call("train", "--features", toy_store.path, "--way", 3, "--method", "otam", "--out", "run")
    assert status == 0
    assert "otam: no trainable parameter reaches the scores, so training is skipped" in out
    assert "nothing to train" in out
    status, out, _ = call("evaluate", "--features", toy_store.path, "--checkpoint", "run", "--episodes", 10)
    assert status == 0
    assert "otam, 3-way 1-shot on test" in out
