"""Failed videos: tried again once their file has changed, or all of them; a run that stops at the first."""

import json
import os
from pathlib import Path

import pytest
from mastaf.cache import console
from mastaf.cache.index import DONE, FAILED, MISSING
from mastaf.cache.store import open_store
from mastaf.extract.cli import command
from mastaf.extract.datasets.by_name import find_dataset

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
KEYS = tuple(f"{name}/{n}.mp4" for name in ("run", "walk") for n in range(4))


@pytest.fixture
def root(make_video, tmp_path: Path) -> Path:
    """Eight videos: run/1 is no video, walk/0 is empty, walk/3 is not there when the store is made."""
    root = tmp_path / "videos"
    for key in KEYS:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(make_video("failures.mp4", *H264).read_bytes())
    (root / "run/1.mp4").write_text("no video")
    (root / "walk/0.mp4").write_bytes(b"")
    (root / "walk/3.mp4").unlink()
    (root / "list.csv").write_text("path,class\n" + "".join(f"{key},{key.partition('/')[0]}\n" for key in KEYS))
    return root


@pytest.fixture
def go(root: Path, tmp_path: Path, capsys):
    """Run the command: (exit status, its report, what it printed)."""

    def run(*arguments: str):
        report = tmp_path / "report.json"
        line = ("--backbone", "r3d-tiny", "--weights", "random", "--devices", "cpu", "--size", "32", "--frames", "4")
        line += ("--shard-rows", "3", "--batch", "3", "--json", str(report))
        paths = ("--dataset", str(root / "list.csv"), "--root", str(root), "--out", str(tmp_path / "s.zarr"))
        report.unlink(missing_ok=True)
        with pytest.raises(SystemExit) as leaving:
            console.run(command, [*line, *paths, *arguments])
        out, err = capsys.readouterr()
        return leaving.value.code, json.loads(report.read_text()) if report.exists() else {}, out + err

    return run


def failed(report) -> list[str]:
    return [failure["key"] for failure in report["failures"]]


def generations(tmp_path: Path) -> list[int]:
    return [record.generation for record in open_store(tmp_path / "s.zarr").records()]


def test_mended_files_are_done_alone_by_the_same_command(go, root, make_video, tmp_path, one_thread) -> None:
    good = make_video("failures.mp4", *H264).read_bytes()
    status, report, shown = go()
    assert (status, report["done"], failed(report)) == (1, 5, ["run/1.mp4", "walk/0.mp4", "walk/3.mp4"])
    assert "once the files are mended in place, the same command does those alone" in shown
    assert (go()[1]["done"], generations(tmp_path)) == (0, [0, 0, 0])

    (root / "walk/3.mp4").write_bytes(good)  # it came
    status, report, _ = go()
    assert (status, report["done"], report["skipped"], failed(report)) == (1, 1, 5, ["run/1.mp4", "walk/0.mp4"])
    assert generations(tmp_path) == [0, 0, 1]

    (tmp_path / "good.mp4").write_bytes(good)
    os.utime(tmp_path / "good.mp4", (1, 1))  # an old file, moved into place
    (tmp_path / "good.mp4").rename(root / "run/1.mp4")
    (root / "walk/0.mp4").write_text("still no video")
    status, report, _ = go()
    assert (status, report["done"], failed(report)) == (1, 1, ["walk/0.mp4"])
    assert generations(tmp_path) == [1, 1, 1]

    assert (go()[1]["done"], generations(tmp_path)) == (0, [1, 1, 1])
    assert failed(go("--retry-failed")[1]) == ["walk/0.mp4"]
    assert generations(tmp_path) == [1, 2, 1]
    (root / "walk/0.mp4").write_bytes(good)
    assert go()[0] == 0
    store = open_store(tmp_path / "s.zarr")
    assert store.states().tolist() == [DONE] * 8
    cubes = store.read(range(8))
    assert (cubes == cubes[:1]).all()


def test_a_run_that_stops_at_the_first_failure(go, root, make_video, tmp_path, one_thread) -> None:
    good = make_video("failures.mp4", *H264).read_bytes()
    stop = ("--on-failure", "stop")
    status, report, shown = go(*stop)
    assert (status, report["done"], report["missing"], report["stopped_at"]) == (1, 1, 6, "run/1.mp4")
    assert report["videos_per_second"] == pytest.approx(2 / report["seconds"]["total"], rel=0.05, abs=0.02)
    assert "stopped at run/1.mp4 (--on-failure stop)" in shown
    assert "failed: run/1.mp4: not a video that ffmpeg can read" in shown
    store = open_store(tmp_path / "s.zarr")
    assert store.states().tolist() == [DONE, FAILED, *[MISSING] * 6]
    first = store.read([0])

    assert go(*stop)[1]["stopped_at"] == "run/1.mp4"  # as long as it is broken the run does not get past it
    (root / "run/1.mp4").write_bytes(good)
    status, report, _ = go(*stop)
    assert (status, report["done"], report["stopped_at"]) == (1, 3, "walk/0.mp4")
    status, report, _ = go()
    assert (status, report["done"], failed(report), report["stopped_at"]) == (1, 2, ["walk/0.mp4", "walk/3.mp4"], "")
    store = open_store(tmp_path / "s.zarr")
    cubes = store.read([0, 1, 2, 3, 5, 6])
    assert (cubes == first).all()


def test_a_data_set_that_lost_a_video_is_refused(go, root, one_thread) -> None:
    assert go()[0] == 1  # its last row has failed, and would be looked at again
    lines = (root / "list.csv").read_text().splitlines(keepends=True)
    (root / "list.csv").write_text("".join(line for line in lines if "run/0" not in line))
    for also in ((), ("--retry-failed",), ("--plan",)):
        status, report, shown = go(*also)
        assert (status, report) == (2, {})
        assert "was made of other videos: 1 are gone ('run/0.mp4')" in shown.splitlines()[-1]


def test_links_and_time_limit_are_options(go, root, tmp_path, one_thread) -> None:
    (root / "run/2.mp4").rename(tmp_path / "outside.mp4")
    (root / "run/2.mp4").symlink_to(tmp_path / "outside.mp4")
    assert len(find_dataset(str(root / "list.csv"), root=root).index) == 7
    status, report, _ = go("--follow-links", "--timeout", "0.000001")
    assert (status, report["failed"]) == (1, 8)
    assert {f["reason"] for f in report["failures"]} >= {
        "ffmpeg took too long on this video and was stopped (--timeout allows more)"
    }
    status, report, _ = go("--follow-links", "--retry-failed")
    assert (report["done"], open_store(tmp_path / "s.zarr").header.provenance["follow_links"]) == (5, True)
    assert go("--timeout", "0")[0] == 2
    (root / "run/2.mp4").unlink()
    (root / "run/2.mp4").write_text("inside, so that the list is the same without the option")
    status, _, shown = go()
    assert status == 2
    assert "was begun with --follow-links, as it says of itself" in shown
