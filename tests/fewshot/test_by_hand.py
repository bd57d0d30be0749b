"""The recipe of docs/episode_lists.md in plain Python gives the lists of the package, byte by byte."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mastaf.fewshot.episodes.listing import write_listing

SCRIPT = Path(__file__).parents[2] / "examples" / "episodes_by_hand.py"


@pytest.mark.parametrize(
    ("drawn", "arguments"),
    [
        ({"way": 3, "shot": 1}, ["--way", 3]),
        ({"way": 4, "shot": 3, "list_seed": 2**40 + 7}, ["--way", 4, "--shot", 3, "--list-seed", 2**40 + 7]),
        (
            {"way": 2, "shot": 2, "query_mode": "per_class", "queries": 3, "split": "train"},
            ["--way", 2, "--shot", 2, "--query-mode", "per_class", "--queries", 3, "--split", "train"],
        ),
        ({"way": 3, "shot": 4, "episodes_from": "source-disjoint"}, ["--way", 3, "--shot", 4, "--disjoint"]),
        (
            {"way": 3, "shot": 2, "episodes_from": "source-disjoint", "query_mode": "per_class"},
            ["--way", 3, "--shot", 2, "--disjoint", "--query-mode", "per_class"],
        ),
    ],
)
def test_the_example_writes_the_same_list(
    make_store: Any, tmp_path: Path, drawn: dict[str, Any], arguments: list[object]
) -> None:
    # Keys in no order; recordings of one to three clips, some of them unknown.
    store = make_store(
        tmp_path / "s.zarr",
        split_classes={"train": ("zum Bäcker", "a, b", "c"), "test": ("lift", 'say "hi"', "nod", "open")},
        group_of=lambda key: "" if key.endswith("7") else f"{key[:-3]}{int(key[-3:]) // 3}",
    )
    split = drawn.get("split", "test")
    made = write_listing(store, out=tmp_path / "list", **{"split": split, "episodes": 150, **drawn})
    index = store.index
    rows = [row for row in zip(index.keys, index.classes, index.groups, index.splits, strict=True) if row[3] == split]
    with (tmp_path / "videos.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("key", "class", "group"), *(row[:3] for row in reversed(rows))])
    command = [sys.executable, SCRIPT, tmp_path / "videos.csv", "--episodes", 150, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", timeout=60)
    assert done.stderr == f"sha256 {made['sha256']}\n"
    assert done.stdout == (tmp_path / "list").read_text(encoding="utf-8").partition("\n")[2]
