"""Ablations: rows, their training, their table."""

import csv
import json
import statistics
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.fewshot.ablate import ablate, ablate_fully
from mastaf.fewshot.episodes.episode_list import read_episode_list
from mastaf.fewshot.episodes.listing import write_listing
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.evaluate import evaluate_fully
from mastaf.fewshot.records import read_predictions
from mastaf.fewshot.statistics.comparison import Comparison, compared_row
from mastaf.fewshot.statistics.table import text_table
from mastaf.fewshot.statistics.table_files import write_tables

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL: dict[str, Any] = {"way": 3, "train_episodes": 24, "batch": 8, "val_episodes": 10, "episodes": 80}


@pytest.fixture(scope="module")
def noisy(make_store: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_store(tmp_path_factory.mktemp("noisy") / "noisy.zarr", separation=0.7)


@pytest.mark.parametrize(
    ("rows", "variants"),
    [
        ("fusion", ["neighbor", "self", "cross", "full"]),
        ("parts", ["full", "full/no-meta-learner", "full/no-residual", "full/lambda-0"]),
    ],
)
def test_rows_share_their_episodes(noisy: Any, tmp_path: Path, rows: str, variants: list[str]) -> None:
    records = ablate(noisy, rows=rows, shots=(1, 2), out=tmp_path, **SMALL)
    assert [(r["variant"], r["shot"]) for r in records] == [(v, shot) for shot in (1, 2) for v in variants]
    for shot in (1, 2):
        assert len({r["episode_list"] for r in records if r["shot"] == shot}) == 1
    trained = [r for r in records if r["variant"] not in ("neighbor", "full/no-meta-learner")]
    assert {r["selected_on"] for r in trained} == {"val"}
    configs = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("*_1shot_*/config.json"))]
    assert (
        len(
            {
                (c["seed"], c["way"], c["query_mode"], c["queries"], c["train_videos"])
                for c in configs
                if c["train_videos"]
            }
        )
        == 1
    )


def test_every_pair_of_rows_is_compared(noisy: Any, tmp_path: Path) -> None:
    compared = ablate_fully(noisy, rows="all", out=tmp_path, **SMALL)
    names = ["neighbor", "self", "cross", "full", "no-meta-learner", "no-residual", "lambda-0"]
    assert [row.name for row in compared.rows] == names
    assert len(compared.pairs) == 7 * 6 / 2
    assert {frozenset((pair.first, pair.second)) for pair in compared.pairs} == {
        frozenset(pair) for pair in combinations(names, 2)
    }
    right = {row.name: read_predictions(row.paths[0].with_suffix(".npz")).correct for row in compared.rows}
    for pair in compared.pairs:
        a, b = right[pair.first].astype(float), right[pair.second].astype(float)
        assert pair.difference.mean == pytest.approx(np.mean(a - b))
        assert pair.difference.ci95 == pytest.approx(1.96 * np.std(a - b, ddof=1) / 80**0.5)
        assert pair.difference.only_first == (sum(a > b),)
        assert pair.difference.only_second == (sum(a < b),)
    for row in compared.rows:
        difference = compared.minus_base(row)
        assert (difference is None) == (row.name == "full")
        if difference is not None:
            assert difference.mean == pytest.approx(row.accuracy - compared.rows[3].accuracy)


def test_the_table_is_for_people_and_for_programs(noisy: Any, tmp_path: Path) -> None:
    compared = ablate_fully(noisy, shots=(1, 2), out=tmp_path, **SMALL)
    text = text_table(compared)
    assert "3-way accuracy in % on test, 80 episodes" in text
    assert "features: frozen; selected on: val" in text
    assert "within noise" in text
    assert "Holm's correction over 12 comparisons" in text
    lines = list(csv.DictReader((tmp_path / "ablation_fusion_test.csv").read_text().splitlines()))
    assert [line["row"] for line in lines] == ["neighbor", "self", "cross", "full"] * 2
    assert [float(line["accuracy"]) for line in lines] == [row.record["accuracy"] for row in compared.rows]
    pairs = list(csv.DictReader((tmp_path / "ablation_fusion_test_pairs.csv").read_text().splitlines()))
    assert [float(line["p_holm"]) for line in pairs] == [pair.difference.p_holm for pair in compared.pairs]
    saved = json.loads((tmp_path / "ablation_fusion_test.json").read_text())
    assert saved["features"] == "frozen"
    assert [row["records"] for row in saved["rows"]] == [row.records for row in compared.rows]
    assert [pair["within_noise"] for pair in saved["pairs"]] == [p.difference.within_noise for p in compared.pairs]


def test_seeds_are_repeated_and_their_spread_is_told_apart(noisy: Any, tmp_path: Path) -> None:
    alone = {seed: ablate(noisy, seed=seed, out=tmp_path / f"alone{seed}", **SMALL) for seed in (4, 5, 6)}
    compared = ablate_fully(noisy, seed=4, seeds=3, out=tmp_path / "seeds", **SMALL)
    for place, row in enumerate(compared.rows):
        assert [record["seed"] for record in row.records] == [4, 5, 6]
        accuracies = [alone[seed][place]["accuracy"] for seed in (4, 5, 6)]
        assert [record["accuracy"] for record in row.records] == accuracies
        if place:
            assert row.spread is not None
            assert row.spread.sd == pytest.approx(statistics.stdev(accuracies))
        assert row.accuracy == pytest.approx(statistics.mean(accuracies))
    neighbor = compared.rows[0]
    assert neighbor.spread is None  # nothing of it is trained
    assert (neighbor.ci95, neighbor.ci95_clustered) == (
        neighbor.record["ci95"],
        tuple(neighbor.record["ci95_clustered"]),
    )
    assert "mean of 3 seeds" in text_table(compared)
    with pytest.raises(FewShotError, match=r"seeds \(0\) must be at least 1"):
        ablate(noisy, seeds=0, out=tmp_path / "none", **SMALL)
    with pytest.raises(FewShotError, match="lower --seed or --seeds"):
        ablate(noisy, seed=2**63 - 1, seeds=2, out=tmp_path / "none", **SMALL)


def test_finished_runs_are_used_again(noisy: Any, tmp_path: Path) -> None:
    first = ablate(noisy, out=tmp_path, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/*.safetensors")}
    second = ablate(noisy, out=tmp_path, **SMALL)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert [r["predictions"] for r in second] == [r["predictions"] for r in first]


def test_on_val_nothing_is_selected(noisy: Any, tmp_path: Path) -> None:
    records = ablate(noisy, split="val", out=tmp_path, **{**SMALL, "val_episodes": None})
    assert {(r["split"], r["selected_on"]) for r in records} == {("val", "none")}
    assert not list(tmp_path.glob("*/best.safetensors"))
    ablate(noisy, split="test", out=tmp_path, **SMALL)  # beside them, in folders of its own


def test_kinds_of_features_are_not_mixed(noisy: Any, tmp_path: Path) -> None:
    adapted = ablate_fully(noisy, method_keywords={"adapter": True}, out=tmp_path, **SMALL)
    assert all(row.record["adapter"] for row in adapted.rows)
    assert "features: frozen+adapter" in text_table(adapted)
    plain = ablate_fully(noisy, out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match="must not mix kinds of features"):
        write_tables(tmp_path / "mixed", Comparison([*adapted.rows, *plain.rows], []))


def test_precisions_are_stamped_and_not_mixed(noisy: Any, tmp_path: Path) -> None:
    row = ablate_fully(noisy, out=tmp_path, **SMALL).rows[3]
    assert row.record["precision"] == "fp32"
    rounded = evaluate_fully(noisy, row.paths[0].parent.parent, episodes=80, precision="bf16")
    assert rounded.record["precision"] == "bf16"
    assert rounded.path not in row.paths
    only = Comparison([compared_row("full", [rounded])], [])
    assert "precision: bf16" in text_table(only)
    with pytest.raises(FewShotError, match=r"must not mix precisions \(bf16, fp32\)"):
        text_table(Comparison([row, *only.rows], []))
    other = ablate_fully(noisy, out=tmp_path / "bf16", train_precision="bf16", **SMALL)
    assert "precision: fp32, trained in bf16" in text_table(other)
    with pytest.raises(FewShotError, match="train all rows in one"):
        text_table(Comparison([row, *other.rows], []))


def test_what_the_rows_decide_cannot_be_given(noisy: Any, tmp_path: Path) -> None:
    with pytest.raises(FewShotError, match="decide variant"):
        ablate(noisy, method_keywords={"variant": "self"}, out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match="decide shot"):
        ablate(noisy, shot=5, out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match="did you mean fusion"):
        ablate(noisy, rows="fussion", out=tmp_path, **SMALL)


def test_episode_lists_decide_way_shot_and_episodes(noisy: Any, tmp_path: Path) -> None:
    small = {name: value for name, value in SMALL.items() if name not in ("way", "episodes")}
    lists = [tmp_path / f"{shot}.txt" for shot in (2, 1)]
    for path, shot in zip(lists, (2, 1), strict=True):
        write_listing(noisy, out=path, split="test", episodes=40, way=3, shot=shot, list_seed=8)
    compared = ablate_fully(noisy, episode_lists=lists, out=tmp_path / "a", **small)
    assert [(row.shot, row.record["way"]) for row in compared.rows] == [(2, 3)] * 4 + [(1, 3)] * 4
    assert {row.record["episode_list"] for row in compared.rows} == {read_episode_list(path).sha256 for path in lists}
    drawn = ablate(noisy, shots=(2,), way=3, episodes=40, list_seed=8, out=tmp_path / "b", **small)
    assert [record["predictions"] for record in drawn] == [row.record["predictions"] for row in compared.rows[:4]]


def test_episode_lists_that_make_no_table(noisy: Any, tmp_path: Path) -> None:
    paths = {}
    for name, way, shot in (("a", 3, 1), ("b", 4, 2), ("c", 3, 1)):
        paths[name] = tmp_path / name
        write_listing(noisy, out=paths[name], split="test", episodes=5, way=way, shot=shot)
    refusals = [
        ({"episode_lists": [paths["a"]], "way": 3, "shots": (1,)}, "fixes --shot, --way already"),
        ({"episode_lists": [paths["a"]], "episodes_from": "random"}, "fixes --episodes-from already"),
        ({"episode_lists": [paths["a"], paths["c"]]}, "two episode lists are 1-shot"),
        ({"episode_lists": [paths["a"], paths["b"]]}, "one number of ways"),
        ({"episode_lists": [tmp_path / "none"]}, "does not exist"),
    ]
    for settings, words in refusals:
        with pytest.raises(FewShotError, match=words):
            ablate(noisy, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_selection_on_test_is_stamped_everywhere(noisy: Any, tmp_path: Path) -> None:
    compared = ablate_fully(noisy, select_on="test", out=tmp_path, **SMALL)
    assert [row.record["selected_on"] for row in compared.rows] == ["none", "test", "test", "test"]
    text = text_table(compared)
    assert "selected on: test" in text
    for name in ("self", "cross", "full"):
        assert f"| {name} (selected on test)" in text
    lines = list(csv.DictReader((tmp_path / "ablation_fusion_test.csv").read_text().splitlines()))
    assert [line["selected_on"] for line in lines] == ["none", "test", "test", "test"]
    ablate(noisy, out=tmp_path, **SMALL)  # beside them, in folders of its own
    with pytest.raises(FewShotError, match="nothing is selected; leave --val-episodes, --select-on out"):
        ablate(noisy, split="val", select_on="test", out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match=r"select_on \('tset'\) must be one of val, test, none"):
        ablate(noisy, select_on="tset", out=tmp_path, **SMALL)


def test_source_disjoint_episodes(noisy: Any, make_store: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", separation=0.7, group_of=lambda key: f"{key[:-3]}{int(key[-3:]) // 2}")
    records = ablate(store, episodes_from="source-disjoint", out=tmp_path / "a", **SMALL)
    assert {(r["episodes_from"], r["source_shared"]) for r in records} == {("source-disjoint", 0)}
    with pytest.raises(FewShotError, match="none is known"):
        ablate(noisy, episodes_from="source-disjoint", out=tmp_path / "b", **SMALL)
