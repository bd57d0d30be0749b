"""What users get wrong or find damaged, from the outside: one clear line, its exit status, nothing half-written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.fewshot.records import read_record

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Any]
Call = Callable[..., tuple[int, str, str]]
SMALL = ["--way", 3, "--train-episodes", 16, "--batch", 8, "--val-episodes", 10]
NEIGHBOR = ["--variant", "neighbor", "--way", 3, "--episodes", 20]


def refused(result: tuple[int, str, str], *words: str, status: int = 2) -> None:
    """The run ended in one line on stderr that says all of the words."""
    found, _, errors = result
    assert found == status, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: ")
    for word in words:
        assert word in errors


@pytest.fixture
def listed(call: Call, toy_store: Any, tmp_path: Path) -> Path:
    """A list of 3-way 1-shot test episodes of the toy store."""
    made = call("episodes", "--features", toy_store.path, "-n", 20, "--way", 3, "--out", "list.txt")
    assert made[0] == 0
    return tmp_path / "list.txt"


class TestRows:
    def test_failed_ones_are_left_out_and_counted(self, call: Call, make_store: Make, tmp_path: Path) -> None:
        store = make_store(tmp_path / "s.zarr", failed=["mop/003", "bow/000", "hop/001"])
        status, out, _ = call("train", "--features", store.path, *SMALL, "--out", "run")
        assert status == 0
        assert "left out: 1 failed train videos, 1 failed val videos" in out
        status, out, _ = call("evaluate", "--features", store.path, "--checkpoint", "run", "--episodes", 20)
        assert status == 0
        assert "videos left out: 1 failed" in out
        (record,) = (tmp_path / "run" / "results").glob("*.json")
        assert read_record(record).coverage == {"videos": 31, "failed": 1, "missing": 0}

    def test_too_few_left_for_way_or_shot(self, call: Call, make_store: Make, tmp_path: Path) -> None:
        lost = [f"{name}/{i:03d}" for name in ("mop", "nod") for i in range(8)]
        store = make_store(tmp_path / "s.zarr", failed=[*lost, *(f"open/{i:03d}" for i in range(5))])
        evaluated = ("evaluate", "--features", store.path, "--variant", "neighbor")
        refused(call(*evaluated, "--way", 3), "way (3) must be at most the 2 classes of split 'test'", "lower --way")
        refused(call(*evaluated, "--way", 2, "--shot", 3), "need 4 videos a class", "'open'", "has 3", "lower --shot")
        refused(call("episodes", "--features", store.path, "--way", 3, "--out", "l"), "way (3)")
        refused(call("ablate", "--features", store.path, *SMALL, "--out", "out"), "way (3)", "split 'test'")
        assert not (tmp_path / "out").exists()  # said before anything is trained

    @pytest.mark.parametrize("command", ["train", "evaluate", "ablate", "episodes"])
    def test_missing_ones_are_an_error_unless_allowed(
        self, call: Call, make_store: Make, tmp_path: Path, command: str
    ) -> None:
        store = make_store(tmp_path / "s.zarr", missing_shards=[2, 11])
        more = {
            "train": SMALL,
            "evaluate": NEIGHBOR,
            "ablate": [*SMALL, "--episodes", 20],
            "episodes": ["--way", 3, "-n", 20],
        }[command]
        arguments = (command, "--features", store.path, *more, "--out", "out")
        refused(call(*arguments), "not extracted yet", "--allow-partial")
        assert not (tmp_path / "out").exists()
        assert call(*arguments, "--allow-partial")[0] == 0
        records = list(tmp_path.glob("out/**/results/*.json"))
        assert len(records) == {"evaluate": 1, "ablate": 4}.get(command, 0)
        assert all(read_record(path).coverage["missing"] == 7 for path in records)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_cube_that_is_not_finite_is_named(
        self, call: Call, make_store: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
    ) -> None:
        store = make_store(tmp_path / "s.zarr")
        real = type(store).mapped

        def damaged(self: Any, shard: int) -> np.ndarray:
            cubes = real(self, shard).copy()
            first = shard * store.header.shard_rows
            for slot in range(len(cubes)):
                if first + slot < len(store.index) and store.index.keys[first + slot] in ("bow/002", "nod/004"):
                    cubes[slot, 0, 1] = bad
            return cubes

        monkeypatch.setattr(type(store), "mapped", damaged)
        refused(call("train", "--features", store.path, *SMALL), "'bow/002' holds NaN or Inf", "mastaf-cache verify")
        arguments = ("evaluate", "--features", store.path, *NEIGHBOR, "--out", "out")
        refused(call(*arguments), "'nod/004' holds NaN or Inf", "mastaf-cache verify")
        assert not (tmp_path / "out").exists()


class TestEpisodeLists:
    @pytest.mark.parametrize("command", ["evaluate", "ablate"])
    def test_of_videos_that_the_store_lacks(
        self, call: Call, make_store: Make, listed: Path, tmp_path: Path, command: str
    ) -> None:
        less = make_store(tmp_path / "less.zarr", failed=["mop/003", "nod/001"])
        head = ["--variant", "neighbor"] if command == "evaluate" else SMALL[2:]
        result = call(command, "--features", less.path, *head, "--episode-list", listed, "--out", "out")
        refused(result, "names 2 of its", "the split lacks: ", "'mop/003'", "'nod/001'")
        assert not (tmp_path / "out").exists()

    def test_of_test_videos_cannot_select(self, call: Call, toy_store: Any, listed: Path) -> None:
        result = call("train", "--features", toy_store.path, *SMALL[:-2], "--episode-list", listed)
        refused(result, "videos that the split lacks")

    @pytest.mark.parametrize("command", ["train", "evaluate", "ablate"])
    @pytest.mark.parametrize(
        ("old", "new"), [("lift/000", "lift/001"), ('"list_seed": 0', '"list_seed": 1'), ('"way": 3', '"way": 4')]
    )
    def test_edited_by_hand(self, call: Call, toy_store: Any, listed: Path, command: str, old: str, new: str) -> None:
        text = listed.read_text()
        assert old in text
        listed.write_text(text.replace(old, new))
        head = ["--variant", "neighbor"] if command == "evaluate" else ["--train-episodes", 16, "--batch", 8]
        result = call(command, "--features", toy_store.path, *head, "--episode-list", listed)
        refused(result, "list.txt", "write the list anew, or restore the file")

    def test_cut_short(self, call: Call, toy_store: Any, listed: Path) -> None:
        listed.write_bytes(listed.read_bytes()[:-40])
        result = call("evaluate", "--features", toy_store.path, "--variant", "neighbor", "--episode-list", listed)
        refused(result, "does not match the sha256")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--seed", -1], ["--seed"]),
        (["train", "--seed", 2**63], ["--seed"]),
        (["train", "--seed", 0.5], ["--seed"]),
        (["evaluate", *NEIGHBOR, "--list-seed", -1], ["--list-seed"]),
        (["episodes", "--out", "l", "--list-seed", 2**64], ["--list-seed"]),
        (["ablate", "--seeds", 0], ["--seeds"]),
        (["ablate", *SMALL, "--seed", 2**63 - 1, "--seeds", 2], [f"seed ({2**63})", "lower --seed or --seeds"]),
    ],
)
def test_seeds_out_of_range(call: Call, toy_store: Any, arguments: list[object], words: list[str]) -> None:
    command, *rest = arguments
    refused(call(command, "--features", toy_store.path, *rest), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", *SMALL, "--select-on", "none"], ["--select-on", "val", "test"]),
        (["train", *SMALL, "--episode-list", "list.txt"], ["--val-episodes or --episode-list"]),
        (["train", "--way", 4, "--patience", 2], ["patience needs a selection"]),
        (["ablate", "--way", 3, "--split", "val", "--select-on", "test"], ["nothing is selected", "--select-on"]),
        (["ablate", "--shot", 1, "--episode-list", "list.txt"], ["fixes --shot already; leave it out"]),
        (["ablate", "--way", 3, "--episodes", 5, "--episode-list", "list.txt"], ["fixes --way, --episodes already"]),
        (["ablate", "--episode-list", "list.txt", "--episode-list", "list.txt"], ["two episode lists are 1-shot"]),
        (
            ["evaluate", "--variant", "neighbor", "--episode-list", "list.txt", "--episodes-from", "random"],
            ["fixes --episodes-from already"],
        ),
        (
            ["evaluate", "--variant", "neighbor", "--episode-list", "list.txt", "--episodes-from", "both"],
            ["leave --episodes-from both or --episode-list out"],
        ),
        (["evaluate", *NEIGHBOR, "--episodes-from", "source-disjoint"], ["none is known of split 'test'"]),
        (["evaluate", *NEIGHBOR, "--episodes-from", "both"], ["none is known of split 'test'"]),
        (["episodes", "--way", 3, "--out", "l", "--episodes-from", "source-disjoint"], ["none is known"]),
        (["episodes", "--way", 3, "--out", "l", "--episodes-from", "both"], ["--episodes-from", "random"]),
        (["episodes", "--way", 3, "--out", "l", "--queries", 2], ["queries (2)", "per_class"]),
        (["evaluate", *NEIGHBOR, "--query-mode", "single", "--queries", 2], ["queries (2)", "per_class"]),
    ],
)
def test_contradictory_options(
    call: Call, toy_store: Any, listed: Path, tmp_path: Path, arguments: list[object], words: list[str]
) -> None:
    command, *rest = arguments
    refused(call(command, "--features", toy_store.path, *rest), *words)
    assert not (tmp_path / "l").exists()
    assert not list(tmp_path.glob("**/results"))


def test_classes_seen_in_training(call: Call, toy_store: Any, make_store: Make, tmp_path: Path) -> None:
    assert call("train", "--features", toy_store.path, *SMALL, "--out", "run")[0] == 0
    other = make_store(tmp_path / "o.zarr", split_classes={"test": ("bow", "row", "sit", "tip")})
    arguments = ("evaluate", "--features", other.path, "--checkpoint", "run", "--episodes", 20)
    refused(call(*arguments), "trained on 1 of the 4 test classes", "'bow'", "--allow-seen-classes")
    status, out, _ = call(*arguments, "--allow-seen-classes")
    assert status == 0
    assert "1 classes seen in training; trained on another store (toy)" in out
