"""Ablations: rows, their training, their table."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.fewshot.ablate import ablate, ablate_fully
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.paired import paired_difference
from mastaf.fewshot.records import read_predictions
from mastaf.fewshot.table import text_table, write_tables

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


def test_the_table_compares_with_full_pair_by_pair(noisy: Any, tmp_path: Path) -> None:
    rows = ablate_fully(noisy, rows="all", out=tmp_path, **SMALL)
    names = ["neighbor", "self", "cross", "full", "no-meta-learner", "no-residual", "lambda-0"]
    assert [row.name for row in rows] == names
    answers = {row.name: read_predictions(row.path.with_suffix(".npz")) for row in rows}
    full = answers["full"].correct.astype(float)
    for row in rows:
        if row.name == "full":
            assert row.difference is None
            continue
        assert row.difference is not None
        differences = [float(a) - float(b) for a, b in zip(answers[row.name].correct, full, strict=True)]
        assert row.difference.mean == pytest.approx(np.mean(differences))
        assert row.difference.ci95 == pytest.approx(1.96 * np.std(differences, ddof=1) / 80**0.5)
        assert row.difference.within_noise == (abs(np.mean(differences)) <= row.difference.ci95)
    text = text_table(rows)
    assert "3-way accuracy in % on test, 80 episodes" in text
    assert "features: frozen; selected on: val" in text
    assert "within noise" in text
    lines = list(csv.DictReader((tmp_path / "ablation_all_test.csv").read_text().splitlines()))
    assert [line["row"] for line in lines] == names
    assert float(lines[0]["accuracy"]) == rows[0].record["accuracy"]
    saved = json.loads((tmp_path / "ablation_all_test.json").read_text())
    assert saved["features"] == "frozen"
    assert [row["record"] for row in saved["rows"]] == [row.record for row in rows]


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
    assert all(row.record["adapter"] for row in adapted)
    assert "features: frozen+adapter" in text_table(adapted)
    plain = ablate_fully(noisy, out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match="must not mix kinds of features"):
        write_tables(tmp_path / "mixed", [*adapted, *plain])


def test_what_the_rows_decide_cannot_be_given(noisy: Any, tmp_path: Path) -> None:
    with pytest.raises(FewShotError, match="decide variant"):
        ablate(noisy, method_keywords={"variant": "self"}, out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match="decide shot"):
        ablate(noisy, shot=5, out=tmp_path, **SMALL)
    with pytest.raises(FewShotError, match="did you mean fusion"):
        ablate(noisy, rows="fussion", out=tmp_path, **SMALL)


def test_a_difference_needs_the_same_episodes(noisy: Any, tmp_path: Path) -> None:
    one, other = (ablate_fully(noisy, out=tmp_path, list_seed=seed, **SMALL)[0] for seed in (0, 1))
    first, second = (read_predictions(row.path.with_suffix(".npz")) for row in (one, other))
    with pytest.raises(FewShotError, match="same episodes"):
        paired_difference(first, second)
    assert paired_difference(first, first).mean == 0
