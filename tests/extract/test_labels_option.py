"""`mastaf-extract --labels`: what is said, what the store keeps, and that no cube is touched for it."""

import json
import shutil

import pytest
from mastaf.cache import console
from mastaf.cache.store import open_store
from mastaf.extract.cli import command

COMMON = ("--backbone", "r3d-tiny", "--weights", "random", "--dataset", "folder", "--devices", "cpu")
LABELS = "0,sitting\n1,falling off chair\n2,archery\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory, frame_folder):
    """Two train and three test classes of two videos."""
    root = tmp_path_factory.mktemp("videos")
    for name in ("train/walk", "train/run", "test/sit", "test/Fall", "test/JumpRope"):
        for clip in ("1", "2"):
            shutil.copytree(frame_folder, root / name / clip)
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


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(LABELS)
    return path


def test_a_new_store_has_the_finding(cli, root, tmp_path, labels):
    out, report = tmp_path / "s.zarr", tmp_path / "r.json"
    status, shown, _ = cli(*COMMON, "--root", root, "--out", out, "--labels", labels, "--json", report)
    assert status == 0
    assert "2 of 3 test classes" in shown
    assert "1 same, 1 near (labels.csv, 3 labels)" in shown
    assert "same  sit: sitting (same words)" in shown
    assert "near  Fall: falling off chair" in shown
    assert "none  JumpRope" in shown
    assert "the number before each label" in shown
    assert "The weights are random" in shown
    found = open_store(out).label_overlap()
    assert found is not None
    assert {name: entry["grade"] for name, entry in found.classes.items()} == {
        "Fall": "near",
        "JumpRope": "none",
        "sit": "same",
    }
    assert json.loads(report.read_text())["label_overlap"] == found.to_json()


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_finished_store_gets_it_without_touching_a_cube(cli, root, tmp_path, labels, suffix):
    out = tmp_path / f"s{suffix}"
    arguments = (*COMMON, "--root", root, "--out", out)
    assert cli(*arguments)[0] == 0
    assert open_store(out).label_overlap() is None
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    digest = open_store(out).digest
    status, shown, _ = cli(*arguments, "--labels", labels)
    assert (status, "done: 0 videos extracted, 10 were there" in shown) == (0, True)
    first = open_store(out).label_overlap()
    assert first is not None
    assert first.counts == {"same": 1, "near": 1, "none": 1, "all": 3}
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    assert open_store(out).digest == digest
    # Without the option it stays; another list replaces it.
    assert cli(*arguments)[0] == 0
    assert open_store(out).label_overlap() == first
    labels.write_text("skipping\njumping rope\n")
    assert cli(*arguments, "--labels", labels)[0] == 0
    second = open_store(out).label_overlap()
    assert second is not None
    assert second.graded("same") == ["JumpRope"]


def test_a_stopped_run_has_it_too(cli, root, tmp_path, labels):
    out = tmp_path / "s.zarr"
    assert cli(*COMMON, "--root", root, "--out", out, "--labels", labels, "--limit", 2)[0] == 0
    assert open_store(out).label_overlap() is not None


def test_labels_cannot_command_a_terminal(cli, root, tmp_path, labels):
    labels.write_text("sitting \x1b[2J\x07\narchery\n")
    status, shown, _ = cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr", "--labels", labels)
    assert status == 0
    assert "\x1b" not in shown
    assert r"sitting \x1b[2J\x07" in shown


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "does not exist"),
        (b"", "it is empty"),
        (bytes(range(128, 256)) + b"\xff", "must be text"),
        (b"a\n" * 9_000_000, "at most 16 MB"),
        (b"\x1b[2J" * 1000, "a line has 4000 characters"),
    ],
)
def test_bad_lists_are_one_line_before_anything_is_made(cli, root, tmp_path, labels, data, words):
    labels.unlink()
    if data is not None:
        labels.write_bytes(data)
    status, shown, err = cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr", "--labels", labels)
    assert (status, shown, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert words in err
    assert "\x1b" not in err
    assert not (tmp_path / "s.zarr").exists()


def test_a_data_set_without_test_classes(cli, root, tmp_path, labels):
    shutil.copytree(root / "train", tmp_path / "videos/train")
    status, _, err = cli(*COMMON, "--root", tmp_path / "videos", "--out", tmp_path / "s.zarr", "--labels", labels)
    assert status == 2
    assert "--labels looks at test classes, and this data set has none; leave it out" in err
    assert not (tmp_path / "s.zarr").exists()


def test_every_layer_of_one_pass_has_it(cli, root, tmp_path, labels):
    layers = ("--layer", "layer3,layer4")
    assert cli(*COMMON, "--root", root, "--out", tmp_path / "s.zarr", *layers, "--labels", labels)[0] == 0
    found = [open_store(tmp_path / f"s_{layer}.zarr").label_overlap() for layer in ("layer3", "layer4")]
    assert found[0] is not None
    assert found[0] == found[1]
