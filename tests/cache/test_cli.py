"""`mastaf-cache` as its users run it."""

import json
import subprocess
import sys

import pytest
from mastaf.cache import cli, console
from mastaf.cache.store import open_store, writer_lock


@pytest.fixture
def run(capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as leaving:
            console.run(cli.cli, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return call


def test_info_shows_what_is_in_a_store(tmp_path, make, kind, run):
    suffix, how = kind
    coverage = [
        {"split": "test", "class": "wälk 2", "found": 3, "expected": 4},
        {"split": "test", "class": "pour", "found": 0, "expected": 2},
        {"split": "train", "class": "wälk 0", "found": 4, "expected": 4},
    ]
    store = make.empty(
        tmp_path / f"s{suffix}", **how, coverage=coverage, provenance={"torch": "2.13", "ignored": {"a": 1}}
    )
    make.write(store, 0, failed=(1,), notes={2: "95 of 100 frames decodable"})
    make.write(store, 2)
    status, out, err = run("info", store.path, "--json", tmp_path / "i.json")
    assert (status, err) == (0, "")
    for text in (
        store.digest,
        store.spec.recipe,
        "10 videos of 'folder'",
        f"{store.spec.dtype} [10, 1, 3, 1, 2, 2]",
        how.get("compress", "not compressed"),
        "2 of 3 shards of 4 rows",
        "cpu (2 shards)",
        "backbone       r3d-tiny",
        "mean           0.4, 0.5, 0.6",
        "wälk 2 2/3 (1 short of the published 4)",
        "pour 0/0 (2 short of the published 2)",
        "wälk 0 3/4",
        "failures: 1\n  'wälk 1/clip1' (row 1): no video stream",
        "notes: 1\n  'wälk 2/clip2' (row 2): 95 of 100 frames decodable",
        "torch          2.13",
        'ignored        {"a": 1}',
    ):
        assert text in out
    facts = json.loads((tmp_path / "i.json").read_text())
    assert facts["splits"]["test"] == {
        "classes": 2,
        "expected": 6,
        "found": 3,
        "videos": 3,
        "done": 2,
        "failed": 0,
        "missing": 1,
    }
    assert facts["splits"]["val"]["failed"] == 1
    assert facts["spec"] == store.spec.to_json()
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and path.name != "i.json")
    assert facts["bytes"] == size


def test_info_names_the_first_ten_failures(tmp_path, make, run):
    store = make.empty(tmp_path / "s.zarr", n=14, shard_rows=14)
    make.write(store, 0, failed=tuple(range(12)))
    _, out, _ = run("info", store.path)
    assert "failures: 12" in out
    assert out.count("no video stream") == 10
    assert "... and 2 more" in out


def test_verify_says_what_it_saw(tmp_path, make, kind, run):
    suffix, how = kind
    store, _ = make.full(tmp_path / f"s{suffix}", **how)
    status, out, err = run("verify", store.path)
    assert (status, err) == (0, "")
    assert out == f"{store.path}: 0 missing, 9 done, 1 failed, 0 damaged; 0 bad\n"
    store.shard_path(2).write_bytes(b"")
    status, out, err = run("verify", store.path, "--json", tmp_path / "v.json")
    assert (status, err) == (1, "")
    assert "bad: 'wälk 2/clip8' (row 8): the file of shard 2" in out
    assert "2 bad" in out
    facts = json.loads((tmp_path / "v.json").read_text())
    assert [row["key"] for row in facts["bad"]] == ["wälk 2/clip8", "wälk 0/clip9"]


def test_convert_writes_the_other_format(tmp_path, make, run):
    store, _ = make.full(tmp_path / "a.zarr")
    status, out, _ = run("convert", store.path, tmp_path / "b.h5", "--json", tmp_path / "c.json")
    assert status == 0
    assert out.startswith(f"{tmp_path / 'b.h5'}: 10 rows")
    assert list(open_store(tmp_path / "b.h5").records()) == list(store.records())
    assert json.loads((tmp_path / "c.json").read_text())["rows"] == 10
    assert run("convert", store.path, tmp_path / "z.zarr", "--compress", "zstd")[0] == 0
    begun = make.empty(tmp_path / "begun.zarr")
    make.write(begun, 0)
    assert "10 rows (4 of them done, 6 missing), " in run("convert", begun.path, tmp_path / "begun.h5")[1]


@pytest.mark.parametrize("command", ["info", "verify", "convert"])
def test_bad_stores_are_one_line_and_status_2(tmp_path, make, run, command):
    store, _ = make.full(tmp_path / "s.h5")
    store.path.write_bytes(store.path.read_bytes()[:-9])
    (tmp_path / "text.zarr").write_text("hello")
    (tmp_path / "folder.zarr").mkdir()
    for name, message in [
        ("nope.zarr", "does not exist"),
        ("nope.npz", "must end in .zarr or .h5"),
        ("text.zarr", "is no store of mastaf, or damaged"),
        ("folder.zarr", "is no store of mastaf, or damaged"),
        ("s.h5", "it changed since it was written"),
    ]:
        target = [tmp_path / "t.zarr"] if command == "convert" else []
        status, out, err = run(command, tmp_path / name, *target)
        assert status == 2, name
        assert out == ""
        assert err.startswith("error: ")
        assert message in err
        assert err.count("\n") == 1


def test_a_damaged_record_is_one_line(tmp_path, make, run):
    store, _ = make.full(tmp_path / "s.zarr")
    (store.path / "shards/00001/zarr.json").write_text("{")
    status, _, err = run("info", store.path)
    assert status == 2
    assert "the record of shard 1" in err
    assert run("verify", store.path)[0] == 1


def test_outputs_that_cannot_be_written(tmp_path, make, run):
    store, _ = make.full(tmp_path / "s.zarr")
    (tmp_path / "file").write_text("in the way")
    status, _, err = run("convert", store.path, tmp_path / "file" / "t.h5")
    assert status == 2
    assert str(tmp_path / "file") in err
    assert err.count("\n") == 1
    status, _, err = run("info", store.path, "--json", tmp_path / "file" / "i.json")
    assert status == 2
    assert err.count("\n") == 1
    with writer_lock(tmp_path / "t.h5"):
        status, _, err = run("convert", store.path, tmp_path / "t.h5")
    assert status == 75
    assert "another process is writing" in err


def test_help_has_examples_and_imports_little():
    program = (
        "import sys\nfrom mastaf.cache import cli\n"
        "for words in (['--help'], *([name, '--help'] for name in ('info', 'verify', 'convert', 'unlock'))):\n"
        "    cli.cli.main(words, standalone_mode=False)\n"
        "print('imported:', *{'torch', 'zarr', 'h5py', 'numpy'} & set(sys.modules))\n"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.count("Example") == 5
    assert out.endswith("imported:\n")


def test_as_a_module(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr")
    done = subprocess.run(
        [sys.executable, "-m", "mastaf.cache", "verify", str(store.path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "9 done" in done.stdout
