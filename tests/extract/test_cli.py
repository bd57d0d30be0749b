"""`mastaf-extract` from the outside: what it prints, its exit statuses, wrong input of every kind."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from mastaf.cache import console
from mastaf.cache.index import DONE
from mastaf.cache.store import open_store
from mastaf.extract.cli import command
from mastaf.extract.engine import pipeline as pipeline_module
from mastaf.extract.out_names import default_out

COMMON = (
    "--backbone",
    "r3d-tiny",
    "--weights",
    "random",
    "--dataset",
    "folder",
    "--devices",
    "cpu",
    "--precision",
    "fp32",
)
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def ffmpeg(*arguments):
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


def make_video(path, pattern="testsrc", size="48x32"):
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg("-f", "lavfi", "-i", f"{pattern}=size={size}:rate=8:duration=1", path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two train and two test classes of two videos; one of them a folder of frames."""
    root = tmp_path_factory.mktemp("videos")
    patterns = iter(("testsrc", "testsrc2", "smptebars", "rgbtestsrc", "yuvtestsrc", "pal75bars", "allrgb"))
    for name in ("train/walk/1.mp4", "train/walk/2.mkv", "train/run/1.avi", "train/run/2.mp4", "test/sit/1.mp4",
                 "test/sit/2.mp4", "test/fall/1.mp4"):  # fmt: skip
        pattern = next(patterns)
        make_video(root / name, pattern) if pattern != "allrgb" else make_video(root / name, "testsrc", "32x48")
    frames = root / "test/fall/2"
    frames.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=40x40:rate=8:duration=1", frames / "%05d.png")
    (root / ".DS_Store").touch()
    return root


@pytest.fixture
def cli(capsys):
    """Run the command in this process: (exit status, stdout, stderr)."""

    def run(*arguments):
        with pytest.raises(SystemExit) as leaving:
            console.run(command, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return run


def one_error(err):
    """The one line that a wrong input prints."""
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_help_has_examples_and_imports_no_heavy_package():
    script = (
        "import sys; from mastaf.extract.cli import command\n"
        "command.main(['--help'], standalone_mode=False)\n"
        "print('HEAVY', sorted({'torch', 'zarr', 'h5py', 'numpy', 'joblib'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "mastaf-extract --backbone r3d-tiny --dataset motion" in shown
    assert shown.splitlines()[-1] == "HEAVY []"
    assert all(f"--{name}" in shown for name in ("split-files", "retry-failed", "shard-rows", "json"))


def test_a_whole_run_and_the_same_again(cli, root, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/mastaf-extract", "--root", "my videos"])
    out, report = tmp_path / "s.zarr", tmp_path / "report.json"
    status, shown, _ = cli(*COMMON, "--root", root, "--out", out, "--json", report, "--workers", 2)
    assert status == 0
    assert "folder train: 4 videos in 2 classes" in shown
    assert "ignored stray files: 1" in shown
    assert f"store: {out}" in shown
    assert "done: 8 videos extracted" in shown
    assert "bound by" in shown
    assert f"next: mastaf-fewshot train --features {out}" in shown
    summary = json.loads(report.read_text())
    assert (summary["done"], summary["failed"], summary["split_scheme"]) == (8, 0, "folder")
    assert set(summary["seconds"]) == {"decode", "wait", "forward", "write", "write_wait", "total"}
    assert summary["bound"] in ("decode", "forward", "write")
    store = open_store(out)
    assert store.index.keys[:2] == ("train/run/1.avi", "train/run/2.mp4")
    assert store.header.provenance["command"] == "mastaf-extract --root 'my videos'"

    status, shown, _ = cli(*COMMON, "--root", root, "--out", out)
    assert (status, "done: 0 videos extracted, 8 were there" in shown) == (0, True)


def test_a_limited_run_says_what_is_missing(cli, root, tmp_path):
    status, shown, _ = cli(*COMMON, "--root", root, "--out", tmp_path / "s.h5", "--limit", 3)
    assert (status, "5 missing" in shown) == (0, True)
    assert "without --limit" in shown
    assert "next:" not in shown  # stage two refuses a store with missing rows
    assert "--limit needs --out" in one_error(cli(*COMMON, "--root", root, "--limit", 3)[2])


def test_videos_that_cannot_be_used_are_failed_rows(cli, tmp_path):
    root, out = tmp_path / "videos", tmp_path / "s.zarr"
    good = root / "walk/good.mp4"
    make_video(good)
    make_video(root / "run/good.mkv")
    (root / "walk/truncated.mp4").write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    (root / "walk/empty.mp4").touch()
    (root / "walk/text.mp4").write_text("this is not a video\n" * 50)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", root / "run/audio.mp4")
    frames = root / "run/frames"
    frames.mkdir()
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=32x32:rate=8:duration=1", frames / "%05d.png")
    (frames / "00004.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    status, shown, err = cli(*COMMON, "--root", root, "--out", out, "--json", tmp_path / "r.json")
    assert status == 1, err
    summary = json.loads((tmp_path / "r.json").read_text())
    failed = {failure["key"]: failure["reason"] for failure in summary["failures"]}
    assert set(failed) == {
        *("walk/truncated.mp4", "walk/empty.mp4", "walk/text.mp4", "run/audio.mp4", "run/frames"),
    }
    assert all(reason and "\n" not in reason for reason in failed.values())
    assert all(f"failed: {key}: {reason}" in shown for key, reason in failed.items())
    assert "--retry-failed" in shown
    before = open_store(out).read([open_store(out).index.keys.index("walk/good.mp4")])

    (root / "walk/empty.mp4").write_bytes(good.read_bytes())
    status, shown, _ = cli(*COMMON, "--root", root, "--out", out, "--retry-failed")
    assert (status, "done: 1 videos extracted, 2 were there, 4 failed" in shown) == (1, True)
    store = open_store(out)
    rows = [store.index.keys.index(f"walk/{name}.mp4") for name in ("good", "empty")]
    cubes = store.read(rows)
    assert (cubes[0] == before[0]).all()
    assert (cubes[0] == cubes[1]).all()  # the same video in another slot


def test_the_first_failures_are_shown_and_the_rest_counted(cli, tmp_path):
    for number in range(14):
        path = tmp_path / f"videos/class{number % 2}/{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    status, shown, _ = cli(*COMMON, "--root", tmp_path / "videos", "--out", tmp_path / "s.zarr")
    assert status == 1
    assert shown.count("failed: ") == 10
    assert "... and 4 more" in shown
    assert "next:" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backbone", "r3d-tini"), "unknown backbone 'r3d-tini'; did you mean r3d-tiny"),
        (("--dataset", "hmdb"), "unknown data set 'hmdb'; did you mean hmdb51"),
        (("--views", "plain,flop"), "unknown view 'flop'; did you mean flip"),
        (("--views", "flip"), "must be distinct and begin with plain"),
        (("--devices", "cpu,cuda:99"), "'cuda:99') is not there"),
        (("--sampling", "odd"), "'odd' is not one of 'even', 'middle', 'shuffled'"),
        (("--root", "/nowhere"), "does not exist; give --root DIR"),
        (("--out", "s.npz"), "must end in .zarr or .h5"),
        (("--weights", "/nowhere.pth"), "/nowhere.pth"),
        (("--split-files", "/tmp"), "--split-files belongs to data sets with a published split"),
        (("--cluster", "nonsense"), "must be an address such as tcp://host:8786"),
    ],
)
def test_wrong_options_are_one_line(cli, root, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr", *arguments)
    assert status == 2
    assert message in one_error(err)
    assert not list(tmp_path.glob("*"))


def test_an_empty_folder_and_one_class(cli, tmp_path):
    (tmp_path / "videos").mkdir()
    status, _, err = cli(*COMMON, "--root", tmp_path / "videos", "--out", tmp_path / "s.zarr")
    assert (status, "no videos in" in one_error(err)) == (2, True)
    (tmp_path / "videos/walk").mkdir()
    (tmp_path / "videos/walk/1.mp4").touch()
    status, _, err = cli(*COMMON, "--root", tmp_path / "videos", "--out", tmp_path / "s.zarr")
    assert (status, "only one class, 'walk'" in one_error(err)) == (2, True)


def test_a_store_of_another_recipe_stays_as_it_is(cli, root, tmp_path):
    cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr")
    before = {p: p.read_bytes() for p in (tmp_path / "s.zarr").rglob("*") if p.is_file()}
    status, _, err = cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr", "--frames", 8, "--resize", "short")
    assert status == 2
    assert "frames: 16 in the first, 8 in the second; resize: squash in the first, short in the second" in one_error(
        err
    )
    assert {p: p.read_bytes() for p in (tmp_path / "s.zarr").rglob("*") if p.is_file()} == before


def test_an_unwritable_output(cli, root, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = cli(*COMMON, "--root", root, "--out", tmp_path / "file" / "s.zarr")
    assert status == 2
    assert str(tmp_path / "file") in one_error(err)


def test_a_full_disk_and_an_interrupt_can_be_continued(cli, root, tmp_path, monkeypatch):
    out = tmp_path / "s.zarr"
    arguments = (*COMMON, "--root", root, "--out", out, "--shard-rows", 2)
    calls, sync, decode = [], os.fsync, pipeline_module.decode_clip

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    def interrupted(path, **keywords):
        seen.add(path)
        if len(seen) == 8:
            while DONE not in open_store(out).states():  # something is committed before the interrupt
                time.sleep(0.01)
            raise KeyboardInterrupt
        return decode(path, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        status, _, err = cli(*arguments)
    assert (status, one_error(err)[:6]) == (75, "error:")
    seen = set()
    with monkeypatch.context() as patched:
        patched.setattr(pipeline_module, "decode_clip", interrupted)
        status, _, err = cli(*arguments)
    assert (status, "the same command continues" in err) == (130, True)
    assert 0 < open_store(out).states().tolist().count(DONE) < 8
    assert cli(*arguments)[0] == 0
    cli(*COMMON, "--root", root, "--out", tmp_path / "whole.zarr", "--shard-rows", 2)
    store, whole = open_store(out), open_store(tmp_path / "whole.zarr")
    assert (store.read(range(8)) == whole.read(range(8))).all()


@pytest.mark.parametrize(
    ("dataset", "root", "name"),
    [
        ("hmdb51", None, "hmdb51_r3d.zarr"),
        ("hmdb51", Path("elsewhere"), "hmdb51_r3d.zarr"),
        ("lists/my videos.csv", None, "my-videos_r3d.zarr"),
        ("folder", None, "folder_r3d.zarr"),
        ("folder", Path("data/my clips"), "my-clips_r3d.zarr"),
        ("folder", Path("data/v1.2"), "v1.2_r3d.zarr"),
    ],
)
def test_default_outputs(dataset, root, name):
    assert default_out(dataset, root, "r3d") == Path("cache") / name


def test_wrong_options_are_found_before_a_data_set_is_rendered(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    motion = ("--backbone", "r3d-tiny", "--dataset", "motion")
    assert "must end in .zarr or .h5" in one_error(cli(*motion, "--out", "s.npz")[2])
    assert "did you mean flip" in one_error(cli(*motion, "--views", "plain,flop")[2])
    assert not list(tmp_path.iterdir())


def test_an_ffmpeg_that_is_none_fails_the_run_and_not_every_video(cli, root, tmp_path, monkeypatch):
    monkeypatch.setenv("MASTAF_FFMPEG", "/bin/true")
    status, _, err = cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr")
    assert (status, "MASTAF_FFMPEG" in one_error(err)) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_file_name_cannot_break_a_line_or_command_the_terminal(cli, root, tmp_path):
    videos = tmp_path / "videos"
    for name in ("walk/1.mp4", "run/1\nerror: x.mp4", "run/\x1b[31m.mp4", "walk/\x1b[32mnested/x.txt"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).write_text("no video")
    status, shown, err = cli(*COMMON, "--root", videos, "--out", tmp_path / "s.zarr")
    assert (status, err) == (1, "")
    assert "\x1b" not in shown
    assert not [line for line in shown.splitlines() if line.startswith("error")]
    assert r"failed: run/1\nerror: x.mp4: " in shown
    assert r"'walk/\x1b[32mnested'" in shown
