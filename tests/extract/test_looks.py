"""`mastaf-extract --plan` and `--recheck` from the outside."""

import json
import shutil

import pytest
from mastaf.cache import console
from mastaf.cache.store import open_store
from mastaf.extract.cli import command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def go(tmp_path, make_video, capsys):
    """The command on four videos of two classes, with more arguments: (exit status, stdout, stderr)."""
    for number in range(4):
        place = tmp_path / "videos" / "test" / ("walk", "run")[number % 2] / f"{number}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video("looks.mp4"), place)
    (tmp_path / "videos/test/walk/broken.mp4").write_text("no video")
    common = ["--backbone", "r3d-tiny", "--dataset", "folder", "--devices", "cpu", "--precision", "fp32"]

    def run(*arguments):
        out = ["--root", tmp_path / "videos", "--out", tmp_path / "s.zarr", "--json", tmp_path / "r.json"]
        with pytest.raises(SystemExit) as leaving:
            console.run(command, [str(argument) for argument in (*common, *out, *arguments)])
        shown, err = capsys.readouterr()
        return leaving.value.code, shown, err

    return run


def test_plan_then_run_then_recheck(go, tmp_path, monkeypatch):
    status, shown, _ = go("--plan")
    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"videos", "r.json"}
    assert "folder test: 5 videos in 2 classes" in shown
    assert "to do: 5 videos, about " in shown
    assert "failures in the sample: 1 of 5\nfailed: test/walk/broken.mp4: " in shown
    assert (report["to_do"], report["stores"][0]["to_do"], report["lack"]) == (5, 5, "")
    assert report["hours"] == report["seconds"] / 3600 > 0
    assert [entry["found"] for entry in report["coverage"]] == [2, 3]

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _path: type("Usage", (), {"total": 1 << 50, "free": 1000}))
        status, shown, err = go("--plan")
        assert (status, "the run would not start" in shown, err) == (75, True, "")
        status, _, err = go()
        assert (status, len(err.splitlines())) == (75, 1)
        assert "1000 bytes" in err
        assert not (tmp_path / "s.zarr").exists()

    status, shown, _ = go("--batch", 6, "--shard-rows", 2)
    assert (status, "keeps its own" in shown) == (1, False)  # one video is broken
    status, shown, _ = go("--batch", 1, "--shard-rows", 2, "--compress", "zstd")
    assert f"{tmp_path / 's.zarr'} was begun before, and keeps its own --batch 2, --compress none\n" in shown
    status, shown, _ = go("--recheck", 3)
    report = json.loads((tmp_path / "r.json").read_text())
    assert status == 0
    assert "3 of 4 rows; 3 have the same bits" in shown
    assert (report["stores"][0]["same_bits"], report["stores"][0]["off"]) == (3, 0)
    (tmp_path / "videos/test/run/1.mp4").unlink()
    (tmp_path / "videos/test/run/3.mp4").write_bytes(b"damaged")
    status, shown, _ = go("--recheck", 4)
    assert status == 1
    assert "off: test/run/1.mp4 (row 0): cannot be opened: No such file" in shown
    assert "off: test/run/3.mp4 (row 1): " in shown
    assert "4 of 4 rows; 2 have the same bits, 2 could not be made again" in shown
    assert len(open_store(tmp_path / "s.zarr").reasons()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--plan", "--recheck", 2), "give one of them"),
        (("--recheck", 2, "--limit", 2), "looks at done rows alone; leave out --limit"),
        (("--recheck", 2, "--retry-failed"), "leave out --limit, --retry-failed and --on-failure"),
        (("--recheck", 2, "--on-failure", "stop"), "leave out --limit, --retry-failed and --on-failure"),
        (("--recheck", 2, "--batch", 8, "--shard-rows", 4), "as the store was made; leave out --batch, --shard-rows"),
        (("--recheck", 2, "--compress", "zstd"), "leave out --compress"),
        (("--recheck", 2, "--devices", "cpu,cpu"), "--devices (cpu,cpu) must be one"),
        (("--recheck", 0), "--recheck"),
        (("--recheck", 2), "does not exist"),
    ],
)
def test_what_does_not_go_together(go, arguments, message):
    status, _, err = go(*arguments)
    assert (status, message in err) == (2, True), err
