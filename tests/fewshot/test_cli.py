"""`mastaf-fewshot` from the outside: output, files, exit statuses, one-line errors."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("one_thread")
Make = Callable[..., Any]
Call = Callable[..., tuple[int, str, str]]
SMALL = ["--way", 3, "--train-episodes", 16, "--batch", 8, "--val-episodes", 10]


def refused(result: tuple[int, str, str], *words: str, status: int = 2) -> None:
    """The run ended in one line on stderr that says all of the words."""
    found, _, errors = result
    assert found == status
    errors = errors.lstrip("\n")  # click ends the line of a ^C
    assert len(errors.splitlines()) == 1, errors
    assert errors.startswith("error: ")
    for word in words:
        assert word in errors


def test_help_is_quick_and_without_torch() -> None:
    script = """
import sys
from mastaf.fewshot.cli import cli
for command in ([], ["train"], ["evaluate"], ["ablate"], ["episodes"]):
    cli.main([*command, "--help"], standalone_mode=False)
assert not {"torch", "zarr", "h5py", "numpy"} & set(sys.modules), "heavy import"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n  Example") == 5


def test_from_store_to_number(call: Call, toy_store: Any, tmp_path: Path) -> None:
    status, out, _ = call("train", "--features", toy_store.path, *SMALL, "--json", "t.json")
    assert status == 0
    folder = tmp_path / "runs" / "toy_mastaf_3way_1shot_seed0"
    assert f"--checkpoint runs/{folder.name}" in out
    assert json.loads((tmp_path / "t.json").read_text())["selected_on"] == "val"
    arguments = ("evaluate", "--features", toy_store.path, "--checkpoint", folder, "--episodes", 50, "--json", "e.json")
    status, out, _ = call(*arguments)
    assert status == 0
    assert "accuracy 100.0 +- 0.0 %" in out
    for name in ("lift", "mop", "nod", "open"):
        assert name in out
    saved = json.loads((tmp_path / "e.json").read_text())
    assert saved["accuracy"] == 1
    assert set(saved["per_class"]) == {"lift", "mop", "nod", "open"}
    record = json.loads(Path(saved["path"]).read_text())
    assert {name: saved[name] for name in record} == record


def test_neighbor_needs_no_run(call: Call, toy_store: Any) -> None:
    arguments = ("--features", toy_store.path, "--variant", "neighbor", "--way", 3, "--episodes", 20)
    status, out, _ = call("evaluate", *arguments)
    assert status == 0
    assert "record: runs/toy_mastaf_neighbor_3way_1shot/results/" in out


def test_ablate_prints_its_table(call: Call, toy_store: Any, tmp_path: Path) -> None:
    small = ("--way", 3, "--train-episodes", 16, "--batch", 8)
    arguments = ("--features", toy_store.path, *small, "--shot", "1,2", "--episodes", 20, "--split", "val")
    status, out, _ = call("ablate", *arguments, "--out", "abl", "--json", "a.json")
    assert status == 0
    assert "3-way accuracy in % on val, 20 episodes" in out
    assert "selected on: none" in out
    assert len(json.loads((tmp_path / "a.json").read_text())["rows"]) == 8
    assert (tmp_path / "abl" / "ablation_fusion_val.csv").is_file()


def test_an_episode_list_goes_round(call: Call, toy_store: Any, tmp_path: Path) -> None:
    arguments = ("--features", toy_store.path, "-n", 30, "--way", 3, "--shot", 2, "--out", "lists/l.txt")
    status, out, _ = call("episodes", *arguments)
    assert status == 0
    assert "30 episodes, sha256 " in out
    status, out, _ = call(
        "evaluate", "--features", toy_store.path, "--variant", "neighbor", "--episode-list", "lists/l.txt"
    )
    assert status == 0
    assert "3-way 2-shot on test, 30 episodes" in out
    text = (tmp_path / "lists" / "l.txt").read_text()
    (tmp_path / "lists" / "l.txt").write_text(text.replace("lift/000", "lift/001"))
    result = call("evaluate", "--features", toy_store.path, "--variant", "neighbor", "--episode-list", "lists/l.txt")
    refused(result, "sha256")


def test_lambda_and_switches_reach_the_method(call: Call, toy_store: Any, tmp_path: Path) -> None:
    switches = (
        "--lambda",
        0.5,
        "--tau",
        0.1,
        "--bottleneck",
        3,
        "--no-residual",
        "--no-meta-learner",
        "--preset",
        "paper",
        "--adapter",
    )
    status, _, _ = call("train", "--features", toy_store.path, *SMALL, *switches, "--out", "run")
    assert status == 0
    keywords = json.loads((tmp_path / "run" / "config.json").read_text())["keywords"]
    assert (keywords["global_weight"], keywords["residual"], keywords["meta_learner"]) == (0.5, False, False)
    assert (keywords["preset"], keywords["adapter"]) == ("paper", True)
    assert (keywords["tau"], keywords["bottleneck"]) == (0.1, 3)


class TestBadInput:
    """Each is one clear line, the right exit status, and nothing written before is lost."""

    def test_features_that_do_not_exist(self, call: Call) -> None:
        for command in ("train", "ablate"):
            refused(call(command, "--features", "none.zarr"), "none.zarr", "does not exist")
        refused(call("episodes", "--features", "none.zarr", "--out", "l"), "does not exist")
        refused(call("evaluate", "--features", "none.zarr", "--variant", "neighbor"), "does not exist")

    def test_a_store_with_missing_rows(self, call: Call, make_store: Make, tmp_path: Path) -> None:
        store = make_store(tmp_path / "s.zarr", missing_shards=[1])
        refused(call("train", "--features", store.path, *SMALL), "7 of 48 train videos", "--allow-partial")
        status, out, _ = call("train", "--features", store.path, *SMALL, "--allow-partial")
        assert status == 0
        assert "left out: 7 missing train videos" in out

    def test_way_larger_than_the_classes(self, call: Call, toy_store: Any) -> None:
        refused(call("train", "--features", toy_store.path, "--way", 7), "way (7)", "6 classes", "lower --way")
        neighbor = ("--features", toy_store.path, "--variant", "neighbor")
        refused(call("evaluate", *neighbor, "--way", 5), "way (5)", "4 classes of split 'test'")

    def test_a_class_with_too_few_videos(self, call: Call, make_store: Make, tmp_path: Path) -> None:
        store = make_store(tmp_path / "s.zarr", videos={"dig": 2})
        result = call("train", "--features", store.path, *SMALL, "--shot", 2)
        refused(result, "shot (2) + queries (1) need 3 videos", "'dig'", "has 2", "drop the class")

    def test_a_class_with_failed_videos(self, call: Call, make_store: Make, tmp_path: Path) -> None:
        store = make_store(tmp_path / "s.zarr", failed=[f"mop/{i:03d}" for i in range(7)])
        neighbor = ("--features", store.path, "--variant", "neighbor", "--way", 3)
        refused(call("evaluate", *neighbor), "'mop'", "has 1")

    def test_a_store_of_another_recipe_or_shape(
        self, call: Call, toy_store: Any, make_store: Make, tmp_path: Path
    ) -> None:
        call("train", "--features", toy_store.path, *SMALL, "--out", "run")
        other = make_store(tmp_path / "o.zarr", frames=8)
        refused(
            call("evaluate", "--features", other.path, "--checkpoint", "run"),
            "frames: 16 in the first, 8 in the second",
        )
        wide = make_store(tmp_path / "w.zarr", cube_shape=(6, 1, 3, 3))
        result = call("evaluate", "--features", wide.path, "--checkpoint", "run")
        refused(result, "checkpoint of cubes 6x1x2x2", "has 6x1x3x3")
        refused(call("train", "--features", other.path, *SMALL, "--out", "run"), "other settings", "frames")

    def test_a_pickle(self, call: Call, toy_store: Any, tmp_path: Path) -> None:
        (tmp_path / "model.pth").write_bytes(b"cos\nsystem\n(S'touch exploded'\ntR.")
        refused(call("evaluate", "--features", toy_store.path, "--checkpoint", "model.pth"), "refused unread")
        assert not (tmp_path / "exploded").exists()

    def test_an_output_that_cannot_be_written(self, call: Call, toy_store: Any, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        refused(call("train", "--features", toy_store.path, *SMALL, "--out", "file/run"), "file")
        neighbor = ("--features", toy_store.path, "--variant", "neighbor", "--way", 3, "--episodes", 10)
        refused(call("evaluate", *neighbor, "--out", "file"), "file")
        refused(call("episodes", "--features", toy_store.path, "--way", 3, "-n", 5, "--out", "file/l.txt"), "file")
        assert (tmp_path / "file").read_text() == "in the way"

    def test_a_full_disk(self, call: Call, toy_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mastaf.cache import atomic

        arguments = ("train", "--features", toy_store.path, *SMALL, "--val-every", 8)
        assert call(*arguments, "--out", "whole")[0] == 0
        real, left = atomic.os.fsync, [10]

        def full(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device", "run/state.safetensors")
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(atomic.os, "fsync", full)
            refused(call(*arguments, "--out", "run"), "disk is full", status=75)
        assert call(*arguments, "--out", "run")[0] == 0
        for name in ("best.safetensors", "last.safetensors"):
            assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        assert not list((tmp_path / "run").glob(".*"))

    def test_interrupted(self, call: Call, toy_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from mastaf.fewshot.training.trainer import Trainer

        def interrupted(self: Trainer, progress: Any, count: int) -> float:
            raise KeyboardInterrupt

        arguments = ("train", "--features", toy_store.path, *SMALL, "--out", "run")
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_update", interrupted)
            refused(call(*arguments), "same command continues", status=130)
        assert call(*arguments)[0] == 0

    def test_another_process_trains_there(self, call: Call, toy_store: Any, tmp_path: Path) -> None:
        from mastaf.cache.store import writer_lock

        with writer_lock(tmp_path / "run" / "run"):
            refused(call("train", "--features", toy_store.path, *SMALL, "--out", "run"), "another process", status=75)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["evaluate", "--checkpoint", "run", "--variant", "self"], ["a checkpoint fixes the method"]),
            (["evaluate"], ["--checkpoint RUN", "--variant neighbor"]),
            (["evaluate", "--variant", "self"], ["must be trained", "--method mastaf, or take", "--variant neighbor"]),
            (["train", "--variant", "neighbor", "--no-residual"], ["change nothing"]),
            (["train", "--way", 3, "--queries", 4], ["queries (4)", "per_class"]),
            (["train", "--way", 4, "--patience", 2], ["patience"]),
            (["train", "--method", "mastaff"], ["did you mean mastaf"]),
            (["train", "--variant", "crss"], ["did you mean cross"]),
            (["train", "--preset", "papr"], ["did you mean paper"]),
            (["train", "--seed", -1], ["--seed"]),
            (["train", "--lr", 0], ["--lr"]),
            (["train", "--lr", "inf"], ["lr (inf)"]),
            (["train", "--schedule", "cosine", "--step-every", 9], ["step_every", "schedule 'step', not 'cosine'"]),
            (["ablate", "--schedule", "linear"], ["--schedule", "cosine"]),
            (["train", "--label-smoothing", 1], ["--label-smoothing"]),
            (["train", "--tau", 0], ["--tau"]),
            (["train", "--lambda", "inf"], ["global_weight (inf)"]),
            (["ablate", "--rows", "parts", "--lambda", 1], ["--lambda", "leave it out"]),
            (["ablate", "--way", 3, "--split", "val", "--val-episodes", 9], ["nothing is selected", "--val-episodes"]),
            (["train", "--device", "cuda:99"], ["cuda:99"]),
            (["ablate", "--shot", "1,x"], ["1,x", "such as 1,5"]),
            (["ablate", "--rows", "none"], ["--rows"]),
            (["evaluate", "--variant", "neighbor", "--episode-list", "nope.txt"], ["nope.txt", "does not exist"]),
            (["evaluate", "--variant", "neighbor", "--episode-list", "x", "--episodes", 5], ["fixes --episodes"]),
        ],
    )
    def test_contradictory_or_wrong_options(
        self, call: Call, toy_store: Any, arguments: list[object], words: list[str]
    ) -> None:
        command, *rest = arguments
        refused(call(command, "--features", toy_store.path, *rest), *words)
