"""Stores that a stranger made to harm: links, pipes, other files, other codecs, sizes out of nowhere."""

import hashlib
import json
import os
import pickle

import h5py
import numpy as np
import pytest
from mastaf.cache.errors import CacheError, CorruptStoreError
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store


def _replace_by_link(path, target):
    path.rename(target)
    path.symlink_to(target)


def test_links_inside_a_store_are_refused(tmp_path, make, kind):
    suffix, how = kind
    store, _ = make.full(tmp_path / f"s{suffix}", **how)
    _replace_by_link(store.shard_path(1), tmp_path / "elsewhere")
    assert {row.row for row in verify_store(open_store(store.path))} == {4, 5, 6, 7}
    with pytest.raises(CorruptStoreError, match="symbolic link"):
        open_store(store.path).read_shard(1)


@pytest.mark.parametrize("part", ["zarr.json", "cubes", "cubes/zarr.json", "index", "index/key/utf8/c/0"])
def test_links_to_parts_of_a_zarr_store_are_refused(tmp_path, make, part):
    store, _ = make.full(tmp_path / "s.zarr")
    _replace_by_link(store.path / part, tmp_path / "elsewhere")
    with pytest.raises(CorruptStoreError, match="symbolic link"):
        open_store(store.path)


def test_a_linked_folder_of_records_is_refused(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr")
    _replace_by_link(store.path / "shards", tmp_path / "elsewhere")
    with pytest.raises(CorruptStoreError, match="symbolic link"):
        open_store(store.path).states()


def test_a_linked_folder_of_hdf5_shards_is_refused(tmp_path, make):
    store, _ = make.full(tmp_path / "s.h5")
    _replace_by_link(tmp_path / "s.h5.shards", tmp_path / "elsewhere")
    with pytest.raises(CorruptStoreError, match="move both together"):
        open_store(store.path)


def test_a_pipe_is_not_waited_for(tmp_path, make, kind):
    suffix, how = kind
    store, _ = make.full(tmp_path / f"s{suffix}", **how)
    store.shard_path(0).unlink()
    os.mkfifo(store.shard_path(0))
    with pytest.raises(CorruptStoreError, match="plain file"):
        open_store(store.path).read_shard(0)


@pytest.mark.parametrize(
    ("file", "place", "value"),
    [
        ("cubes/zarr.json", ["shape"], [10, 1, 3, 1, 2, 3]),
        ("cubes/zarr.json", ["shape"], [1 << 60, 1, 3, 1, 2, 2]),
        ("cubes/zarr.json", ["data_type"], "float32"),
        ("cubes/zarr.json", ["chunk_grid", "configuration", "chunk_shape"], [5, 1, 3, 1, 2, 2]),
        ("cubes/zarr.json", ["chunk_key_encoding", "configuration", "separator"], "/"),
        ("cubes/zarr.json", ["codecs"], [{"name": "bytes"}]),
        ("cubes/zarr.json", ["codecs"], None),
        ("cubes/zarr.json", ["codecs", 0, "configuration"], None),
        ("cubes/zarr.json", ["codecs", 0, "configuration", "index_location"], "start"),
        ("cubes/zarr.json", ["codecs", 0, "configuration", "codecs"], [{"name": "numcodecs.pickle"}]),
        ("cubes/zarr.json", ["codecs", 0, "configuration", "codecs", 0, "configuration", "endian"], "big"),
        ("cubes/zarr.json", ["codecs", 0, "configuration", "codecs"], 3),
        ("index/key/utf8/zarr.json", ["shape"], [1 << 60]),
        ("index/key/utf8/zarr.json", ["shape"], [-1]),
        ("index/key/utf8/zarr.json", ["shape"], [3, 3]),
        ("index/key/utf8/zarr.json", ["data_type"], "string"),
        ("index/key/offsets/zarr.json", ["codecs"], [{"name": "vlen-utf8"}]),
        ("index/key/offsets/zarr.json", ["shape"], [2]),
        ("zarr.json", ["attributes"], []),
        ("zarr.json", ["attributes", "mastaf"], "text"),
        ("zarr.json", ["attributes", "mastaf", "spec", "cube_shape"], [1 << 40, 1, 1, 1]),
        ("zarr.json", ["attributes", "mastaf", "spec", "cube_shape"], [3, 2, 1, 2]),
        ("zarr.json", ["attributes", "mastaf", "shard_rows"], 1),
        ("zarr.json", ["attributes", "mastaf", "shard_rows"], 1 << 40),
        ("zarr.json", ["attributes", "mastaf", "compress"], "zstd"),
    ],
)
def test_other_descriptions_of_a_zarr_store_are_refused(tmp_path, make, file, place, value):
    store, _ = make.full(tmp_path / "s.zarr")
    document = json.loads((store.path / file).read_text())
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (store.path / file).write_text(json.dumps(document))
    with pytest.raises(CorruptStoreError, match="is no store of mastaf, or damaged"):
        open_store(store.path)


@pytest.mark.parametrize("file", ["zarr.json", "cubes/zarr.json", "index/split/offsets/c/0", "index/path/zarr.json"])
def test_lost_parts_of_a_zarr_store(tmp_path, make, file):
    store, _ = make.full(tmp_path / "s.zarr")
    (store.path / file).unlink()
    if file == "index/path/zarr.json":  # only a group's description: cubes and index are all there
        assert open_store(store.path).index == store.index
        return
    with pytest.raises(CorruptStoreError, match="is no store of mastaf, or damaged"):
        open_store(store.path)


def test_a_compressed_cube_cannot_claim_more_than_its_size(tmp_path, make):
    from mastaf.cache.sharding import encode_index
    from numcodecs.zstd import Zstd

    store, cubes = make.full(tmp_path / "s.zarr", compress="zstd")
    bomb = bytes(Zstd().encode(np.zeros(50_000_000, np.uint8)))
    short = bytes(Zstd().encode(np.zeros(3, np.uint8)))
    good = bytes(Zstd().encode(cubes[0, 0]))
    pieces = [good, bomb, b"no zstd", short]
    store.shard_path(0).write_bytes(b"".join(pieces) + encode_index([len(piece) for piece in pieces], 4))
    again = open_store(store.path)
    np.testing.assert_array_equal(again.read([0]), cubes[[0], 0])
    assert {row.row for row in verify_store(again)} == {1, 2, 3}
    for row in (1, 2, 3):
        with pytest.raises(CorruptStoreError):
            again.read([row])


def _edit(path, edit):
    """Change an HDF5 file as a stranger would, who also mends the checksum."""
    with h5py.File(path, "r+") as file:
        edit(file)
    checksum = path.with_name(path.name + ".shards") / "main.sha256"
    if checksum.exists():
        checksum.write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def _external_link(file):
    del file["cubes"]
    file["cubes"] = h5py.ExternalLink("other.h5", "cubes")


def _soft_link(file):
    file.move("index/key/utf8", "index/key/real")
    file["index/key/utf8"] = h5py.SoftLink("/index/key/real")


def _external_storage(file):
    size = file["index/key/utf8"].shape
    del file["index/key/utf8"]
    file.create_dataset("index/key/utf8", shape=size, dtype="u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _compressed_bomb(file):
    del file["index/key/utf8"]
    file.create_dataset("index/key/utf8", shape=(1 << 33,), chunks=(1 << 20,), dtype="u1", compression="gzip")


def _never_written(file):
    del file["index/key/utf8"]
    file.create_dataset("index/key/utf8", shape=(1 << 40,), dtype="u1")


def _objects(file):
    del file["index/key/utf8"]
    file.create_dataset("index/key/utf8", data=["a", "b"], dtype=h5py.string_dtype())


def _header(data):
    def edit(file):
        del file["header"]
        file["header"] = data

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _soft_link,
        _external_storage,
        _compressed_bomb,
        _never_written,
        _objects,
        _header(np.void(pickle.dumps({"a": 1}))),
        _header(np.frombuffer(b"{", np.uint8)),
        _header("text"),
        _header(h5py.ExternalLink("/etc/passwd", "header")),
        lambda file: file.pop("header"),
        lambda file: file.pop("index"),
        lambda file: file.pop("index/group/offsets"),
    ],
)
def test_other_descriptions_of_an_hdf5_store_are_refused(tmp_path, make, edit):
    store, _ = make.full(tmp_path / "s.h5")
    _edit(store.path, edit)
    with pytest.raises(CorruptStoreError, match="is no store of mastaf, or damaged"):
        open_store(store.path)


def test_a_virtual_set_that_leads_elsewhere_is_not_followed(tmp_path, make):
    store, cubes = make.full(tmp_path / "s.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("cubes", data=np.ones_like(cubes))

    def edit(file):
        del file["cubes"]
        layout = h5py.VirtualLayout(cubes.shape, "<f2")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "cubes", shape=cubes.shape)
        file.create_virtual_dataset("cubes", layout)

    _edit(store.path, edit)
    np.testing.assert_array_equal(open_store(store.path).read([0, 9]), cubes[[0, 9], 0])
    _edit(store.path, _external_link)
    np.testing.assert_array_equal(open_store(store.path).read([0, 9]), cubes[[0, 9], 0])


def _new_cubes(**arguments):
    def edit(file):
        del file["cubes"]
        file.create_dataset("cubes", **({"shape": (4, 1, 3, 1, 2, 2), "dtype": "<f2"} | arguments))

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        _external_link,
        _new_cubes(dtype="<f4", data=np.zeros((4, 1, 3, 1, 2, 2))),
        _new_cubes(shape=(4, 1, 3, 1, 2, 1)),
        _new_cubes(shape=(1 << 40, 1, 3, 1, 2, 2)),
        _new_cubes(chunks=(1, 1, 3, 1, 2, 2), compression="gzip"),
        _new_cubes(external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]),
        _new_cubes(),  # never written, so without a place in the file
    ],
)
def test_other_shard_files_of_hdf5_are_refused(tmp_path, make, edit):
    store, _ = make.full(tmp_path / "s.h5")
    _edit(store.shard_path(0), edit)
    again = open_store(store.path)
    with pytest.raises(CorruptStoreError, match="file of shard 0"):
        again.read_shard(0)
    assert {row.row for row in verify_store(again)} == {0, 1, 2, 3}


def test_a_renamed_hdf5_pair_still_opens_here(tmp_path, make):
    _, cubes = make.full(tmp_path / "s.h5")
    (tmp_path / "s.h5").rename(tmp_path / "t.h5")
    (tmp_path / "s.h5.shards").rename(tmp_path / "t.h5.shards")
    np.testing.assert_array_equal(open_store(tmp_path / "t.h5").read([0]), cubes[[0], 0])


def test_terminal_codes_in_names_are_not_printed(tmp_path, make, suffix, capsys):
    from mastaf.cache import cli, console
    from mastaf.cache.index import VideoIndex
    from mastaf.cache.store import create_store

    key = "clip\x1b[31m\r\u202e"
    index = VideoIndex((key,), (key,), (key,), ("test",), ("",))
    header = make.header(provenance={"command": "\x1b]0;title\x07"}, dataset="\x1b[2J")
    store = create_store(tmp_path / f"s{suffix}", header=header, index=index)
    make.write(store, 0, failed=(0,), reasons={0: "bad \x1b[31m"})
    for arguments in (["info", str(store.path)], ["verify", str(store.path)]):
        with pytest.raises(SystemExit):
            console.run(cli.cli, arguments)
    store.shard_path(0).write_bytes(b"")
    with pytest.raises(SystemExit):
        console.run(cli.cli, ["verify", str(store.path)])
    out, err = capsys.readouterr()
    assert "clip\\x1b[31m" in out
    assert all(c.isprintable() or c == "\n" for c in out + err)


def test_an_error_line_from_a_store_is_one_printable_line(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr")
    document = json.loads((store.path / "zarr.json").read_text())
    document["attributes"]["mastaf"]["compress"] = "\x1b[31m" + "x" * 10_000
    (store.path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(CacheError) as caught:
        open_store(store.path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600
