"""`mastaf-cache export`: each format read back by something that is not ours, and names that try to break out."""

import io
import json
import struct
import tarfile
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mastaf.cache import cli, console
from mastaf.cache.errors import CacheError, CorruptStoreError, StoppedError
from mastaf.cache.export import export_store
from mastaf.cache.export_names import FORMATS
from mastaf.cache.index import DONE, VideoIndex
from mastaf.cache.store import create_store, open_store

HOSTILE = (
    "../../etc/passwd",
    "..",
    "/absolute/video",
    "a/b",
    "a-b",
    "a.b",
    "A.B",
    "x" * 5000,
    "x" * 5001,
    "naïve/视频\n\x1b[31m",
    "-rf",
    "__metadata__",
    "",
)


def read_npz(folder, video):
    with np.load(folder / video["file"], allow_pickle=False) as found:
        facts = {name: str(found[name]) for name in ("key", "class", "split", "group")}
        return found["cube"], facts | {"row": int(found["row"])}


def read_webdataset(folder, video):
    with tarfile.open(folder / video["file"]) as archive:
        cube = np.load(io.BytesIO(archive.extractfile(f"{video['name']}.cube.npy").read()), allow_pickle=False)
        facts = json.loads(archive.extractfile(f"{video['name']}.json").read())
    return cube, {name: facts[name] for name in ("key", "class", "split", "group", "row")}


def read_safetensors(folder, video):
    """By the format's own description: length of the header, header, bytes."""
    data = (folder / video["file"]).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensor, (begin, end) = header["cubes"], header["cubes"]["data_offsets"]
    assert tensor["dtype"] == "F16"
    cubes = np.frombuffer(data[8 + length :][begin:end], "<f2").reshape(tensor["shape"])  # [m, c, t, h, w]
    key = json.loads(header["__metadata__"]["mastaf"])["keys"][video["position"]]
    return cubes[video["position"]], {"key": key}


READERS = {"npz": read_npz, "webdataset": read_webdataset, "safetensors": read_safetensors}


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def check_export(store, out, index, rows, cubes):
    """Every one of `rows` is there once, with its facts and the bits of cubes [n, c, t, h, w]; no other file is."""
    assert json.loads((out / "index.json").read_text()) == index
    assert [video["row"] for video in index["videos"]] == list(rows)
    assert set(files_of(out)) == {"index.json", *(video["file"] for video in index["videos"])}
    columns = store.index.to_columns()
    for video in index["videos"]:
        cube, facts = READERS[index["format"]](out, video)
        row = video["row"]
        assert (cube.dtype, cube.tobytes()) == (np.dtype("<f2"), cubes[row].tobytes())
        expected = {"row": row} | {name: columns[name][row] for name in ("key", "class", "split", "group")}
        assert {name: video[name] for name in expected} == expected
        assert facts.items() <= expected.items()


@pytest.mark.parametrize("format", FORMATS)
def test_every_done_row_is_read_back_bit_for_bit(tmp_path, make, kind, format):
    suffix, how = kind
    store, cubes = make.full(tmp_path / f"s{suffix}", **how, spec=make.spec(views=("plain", "flip")), n=11)
    done = [row for row in range(11) if row != 5]
    advanced = []
    index = export_store(store, tmp_path / "a", format=format, advance=advanced.append)
    check_export(store, tmp_path / "a", index, done, cubes[:, 0])
    assert sum(advanced) == 11
    assert (index["recipe"], index["spec"]) == (store.spec.recipe, store.spec.to_json())
    assert index["left_out"] == [
        {"key": store.index.keys[5], "split": "test", "state": "failed", "reason": "no video stream"}
    ]
    export_store(store, tmp_path / "b", format=format)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    flipped = export_store(store, tmp_path / "c", format=format, view="flip", split="train")
    check_export(store, tmp_path / "c", flipped, [row for row in done if row % 3 == 0], cubes[:, 1])


@pytest.mark.parametrize("format", FORMATS)
def test_no_key_leaves_the_folder_or_meets_another(tmp_path, make, format):
    n = len(HOSTILE)
    index = VideoIndex(("v.mp4",) * n, HOSTILE, ("c/../..",) * n, ("val",) * n, ("",) * n)
    store = create_store(tmp_path / "s.zarr", header=make.header(shard_rows=n), index=index)
    cubes = make.write(store, 0)
    (tmp_path / "deep").mkdir()
    found = export_store(store, tmp_path / "deep" / "out", format=format)
    check_export(store, tmp_path / "deep" / "out", found, range(n), cubes[:, 0])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert {path.name for path in tmp_path.iterdir()} == {"s.zarr", "deep"}


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cubes_a_shard=st.integers(1, 5), n=st.integers(1, 12), format=st.sampled_from(["webdataset", "safetensors"]))
def test_shards_are_bounded_and_in_order(tmp_path_factory, make, cubes_a_shard, n, format):
    tmp_path = tmp_path_factory.mktemp("bounded")
    spec = make.spec(cube_shape=(8, 2, 5, 50))  # 8 kB
    store = create_store(tmp_path / "s.zarr", header=make.header(spec, shard_rows=n), index=make.index(n))
    cubes = make.write(store, 0)
    index = export_store(store, tmp_path / "out", format=format, shard_bytes=cubes_a_shard * 10_500)
    check_export(store, tmp_path / "out", index, range(n), cubes[:, 0])
    for split in ("train", "val", "test"):
        files = [video["file"] for video in index["videos"] if video["split"] == split]
        assert files == sorted(files)
        assert sorted(set(files)) == [f"{split}-{i:05d}{PurePosixPath(files[0]).suffix}" for i in range(len({*files}))]
        # What fits is not spread over more files than it must be: all but the last hold as much as they can.
        counts = [files.count(name) for name in sorted(set(files))]
        assert all(cubes_a_shard <= count <= cubes_a_shard * 10_500 // 8000 for count in counts[:-1])


def test_nothing_is_left_when_a_row_is_damaged_or_the_disk_is_full(tmp_path, make, monkeypatch):
    store, _ = make.full(tmp_path / "s.zarr")
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"total": 1 << 50, "free": 1 << 20}))
        with pytest.raises(StoppedError, match=r"has 1048576 bytes .* free, and \d+ .* are needed; free some space"):
            export_store(store, tmp_path / "out", format="npz")
    path = store.shard_path(2)
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    for format in FORMATS:
        with pytest.raises(CorruptStoreError, match=r"'.*' \(row 8\) of .* is damaged"):
            export_store(open_store(store.path), tmp_path / "out", format=format)
    assert {entry.name for entry in tmp_path.iterdir()} == {"s.zarr"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "webdatset"}, "unknown format 'webdatset'; did you mean webdataset"),
        ({"view": "flip"}, "unknown view 'flip'; known: plain"),
        ({"split": "tset"}, "unknown split 'tset'; did you mean test"),
        ({"split": "val"}, "has no cube of val yet; finish the extraction"),
    ],
)
def test_wrong_options_are_named(tmp_path, make, change, message):
    store = make.empty(tmp_path / "s.zarr", n=3, shard_rows=1)
    make.write(store, 0)
    with pytest.raises(CacheError, match=message):
        export_store(store, tmp_path / "out", **({"format": "npz"} | change))


def test_a_split_without_classes_is_not_an_unfinished_one(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr", n=2)
    with pytest.raises(CacheError, match=r"has no class of the split test; its splits: train, val$"):
        export_store(store, tmp_path / "out", format="npz", split="test")


def test_the_command(tmp_path, make, capsys):
    store, _ = make.full(tmp_path / "s.zarr", n=10)
    make.empty(tmp_path / "empty.zarr")

    def run(*arguments):
        with pytest.raises(SystemExit) as leaving:
            console.run(cli.cli, ["export", *map(str, arguments)])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    report = tmp_path / "report.json"
    status, out, _ = run(store.path, tmp_path / "npz", "--format", "npz", "--json", report)
    assert status == 1  # a row of the store failed
    assert "9 videos, 1 failed left out" in out
    assert "left out: wälk 2/clip5: no video stream" in out
    assert json.loads(report.read_text())["left_out"][0]["state"] == "failed"
    assert run(store.path, tmp_path / "val", "--format", "safetensors", "--split", "val")[0] == 0
    status, _, err = run(store.path, tmp_path / "npz", "--format", "npz")
    assert (status, "exists already" in err) == (2, True)
    status, _, err = run(tmp_path / "empty.zarr", tmp_path / "none", "--format", "npz")
    assert (status, "has no cube yet" in err) == (2, True)
    status, _, err = run(store.path, "s3://bucket/out", "--format", "npz")
    assert (status, "out (s3://bucket/out) must be a folder of a disk" in err) == (2, True)
    assert list(store.states()).count(DONE) == 9
