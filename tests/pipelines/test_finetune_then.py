"""One command from videos to the table of feature kinds."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from mastaf.fewshot.records import read_predictions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def root(small_motion, tmp_path) -> Path:
    splits = {"train": ("blink", "slide_right"), "val": ("pulse", "swap"), "test": ("rock", "chase", "launch")}
    for split, names in splits.items():
        for name in names:
            shutil.copytree(small_motion / split / name, tmp_path / "videos" / split / name)
    return tmp_path / "videos"


def test_the_table_of_feature_kinds(root, tmp_path, mastaf):
    tuning = "--weights random --size 32 --steps 2 --train-episodes 4 --batch 2 --precision fp32 --way 2"
    tests = "--val-episodes 10 --test-episodes 40 --head-episodes 32"
    places = ["--dataset", "folder", "--root", root, "--out", tmp_path / "kinds", "--frame-cache", tmp_path / "frames"]
    command = ["finetune", "--recipe", "classify,episodic", *tuning.split(), *tests.split(), *places]
    status, out, err = mastaf(*command, "--then", "extract,ablate")
    assert status == 0, err
    assert "| frozen+adapter" in out
    found = json.loads((tmp_path / "kinds/kinds.json").read_text())
    heads = ["neighbor", "self", "cross", "full"]
    kinds = ["frozen", "frozen+adapter", "base-tuned", "episodic"]
    cells = [(row["features"], row["row"]) for row in found["kinds"]]
    assert cells == [(kind, head) for kind in kinds for head in heads] + [("episodic", "trained together")]
    assert (tmp_path / "kinds/kinds.md").read_text().strip() in out
    records = [json.loads(Path(row["paths"][0]).read_text()) for row in found["kinds"]]
    assert len({record["episode_list"] for record in records}) == 1
    assert len({record["recipe"] for record in records}) == 3
    assert len(found["pairs"]) == 4 * 6

    right = {}
    for cell, row in zip(cells, found["kinds"], strict=True):
        right[cell] = read_predictions(Path(row["paths"][0]).with_suffix(".npz")).correct
        assert row["accuracy"] == pytest.approx(right[cell].mean())
    pair = next(p for p in found["pairs"] if (p["first"], p["second"]) == ("neighbor: base-tuned", "frozen"))
    first, second = right["base-tuned", "neighbor"], right["frozen", "neighbor"]
    assert pair["mean"] == pytest.approx(first.mean() - second.mean())
    assert np.sum(pair["only_first"]) == (first & ~second).sum()

    again, out, err = mastaf(*command, "--then", "extract")
    assert again == 0, err
    assert "classify is already trained with these settings" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--then ablate", "then (ablate) must begin with extract"),
        ("--then extract,show", "unknown step of then 'show'"),
        ("--recipe tail --then extract", "recipe (tail) must be of classify, episodic with --then"),
        ("--recipe classify,episodic", "unknown recipe 'classify,episodic'"),
        ("--recipe classify --then extract --way 3", "way (3) belongs to --recipe episodic and tail"),
        ("--test-episodes 50", "belong to --then extract,ablate"),
        ("--recipe classify --features x.zarr", "features (x.zarr) belongs to --recipe tail"),
        ("--recipe tail --checkpointing --root x", "root (x) belongs to --recipe classify and episodic"),
        ("--epochs 2 --steps 3", "give one of them"),
    ],
)
def test_wrong_options_are_one_line(mastaf, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = mastaf("finetune", *words.split())
    assert status == 2
    assert message in err
    assert not list(tmp_path.iterdir())
