"""A store in object storage, against an S3 server on this machine; what every kind of store does: test_store.py."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from mastaf.cache import cli as cli_module
from mastaf.cache import console
from mastaf.cache.bucket_files import BucketFiles
from mastaf.cache.convert import convert_store
from mastaf.cache.errors import CacheError, CorruptStoreError, MissingRowsError, StoppedError
from mastaf.cache.index import DONE
from mastaf.cache.place import ObjectUrl, store_path
from mastaf.cache.reading_ahead import shards_in_order
from mastaf.cache.store import open_store, store_class
from mastaf.cache.verify import verify_store

SHARD_1 = "cubes/c.1.0.0.0.0.0"


@pytest.fixture
def place(bucket):
    return bucket.new_place() / "s.zarr"


@pytest.fixture
def full(place, make):
    """(store, cubes [n, views, c, t, h, w])."""
    return make.full(place)


@pytest.fixture
def put(bucket, place):
    """`put(name, data)`: as a stranger who may write below the address."""
    return lambda name, data: BucketFiles(place).write(name, [data])


@pytest.fixture
def cli(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as leaving:
            console.run(cli_module.cli, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return run


def test_the_objects_are_the_files_of_a_folder(bucket, full, make, tmp_path):
    store, _ = full
    make.full(tmp_path / "s.zarr")
    files = {str(p.relative_to(tmp_path / "s.zarr")): p for p in tmp_path.rglob("*") if p.is_file()}
    assert bucket.objects(store.path) == {name: path.read_bytes() for name, path in files.items()}


@pytest.mark.parametrize("views", [("plain",), ("plain", "flip")])
def test_zarr_python_reads_it_there(bucket, place, make, views):
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    store, cubes = make.full(place, spec=make.spec(views=views))
    there = S3Store("bucket", prefix=place.key, endpoint=bucket.endpoint, client_options={"allow_http": True})
    group = zarr.open_group(ObjectStore(there, read_only=True), mode="r")
    np.testing.assert_array_equal(group["cubes"][:], cubes)  # pyright: ignore[reportIndexIssue]
    record = group["shards/00001"].attrs.asdict()
    assert record["states"] == [1, 2, 1, 1]
    assert group.attrs["mastaf"] == store.header.to_json()


def test_one_request_reads_a_shard_and_one_a_cube(bucket, place, make):
    store, cubes = make.full(place, n=40, shard_rows=10)
    store = open_store(place)

    def gets(shard):
        return len(bucket.requests("GET", f"c.{shard}.0.0.0.0.0"))

    before = gets(2)
    found = list(shards_in_order(store, [2, 0]))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate([cubes[20:30], cubes[:10]]))
    assert gets(2) - before == 2  # its index, and then the whole
    before = gets(3)
    np.testing.assert_array_equal(store.read([35, 31]), cubes[[35, 31], 0])
    store.read([36])
    assert gets(3) - before <= 5  # its index (perhaps by two threads at once), and three cubes


def test_threads_may_share_it(full):
    store, cubes = full
    store = open_store(store.path)
    rows = [row for row in range(10) if row != 5]
    wrong = []

    def read():
        wrong.extend(row for row in rows * 3 if not np.array_equal(store.read([row])[0], cubes[row, 0]))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_shard_comes_first_and_its_record_last(full, make, monkeypatch):
    store, cubes = full
    written, write = [], BucketFiles.write

    def stopped(self, name, parts):
        written.append(name)
        if name.startswith("shards/"):
            raise StoppedError("the network went away")
        write(self, name, parts)

    with monkeypatch.context() as patch:
        patch.setattr(BucketFiles, "write", stopped)
        with pytest.raises(StoppedError):
            make.write(store, 1)
    assert written == [SHARD_1, "shards/00001/zarr.json"]
    again = open_store(store.path)
    assert again.states()[5] != DONE  # though its cube is there
    with pytest.raises(MissingRowsError):
        again.read([5])
    assert verify_store(again) == []
    make.write(again, 1)
    np.testing.assert_array_equal(again.read([4]), cubes[[4], 0])


@pytest.mark.parametrize("after", [0, 1, 12, 23])
def test_a_store_is_there_once_its_last_object_is(bucket, place, make, monkeypatch, after):
    count, write = [0], BucketFiles.write

    def stopped(self, name, parts):
        if count[0] == after:
            raise StoppedError("killed")
        count[0] += 1
        write(self, name, parts)

    with monkeypatch.context() as patch:
        patch.setattr(BucketFiles, "write", stopped)
        with pytest.raises(StoppedError):
            make.empty(place)
    assert len(bucket.objects(place)) == after
    with pytest.raises(CacheError, match="does not exist"):
        open_store(place)
    make.full(place)
    assert verify_store(open_store(place)) == []


def test_what_is_there_is_not_written_over(full, make, bucket):
    store, _ = full
    before = bucket.objects(store.path)
    with pytest.raises(CacheError, match="exists already"):
        make.empty(store.path)
    other = store.path.with_name("t.zarr")
    BucketFiles(other).write("cubes/c.0.0.0.0.0.0", [b"of a store that lost its description"])
    with pytest.raises(CacheError, match="exists already"):
        make.empty(other)
    assert bucket.objects(store.path) == before


def test_a_stopped_copy_is_finished_by_the_same_call(tmp_path, place, make, monkeypatch):
    store, cubes = make.full(tmp_path / "s.h5")
    write = BucketFiles.write

    def stopped(self, name, parts):
        if name == SHARD_1:
            raise StoppedError("killed")
        write(self, name, parts)

    with monkeypatch.context() as patch:
        patch.setattr(BucketFiles, "write", stopped)
        with pytest.raises(StoppedError):
            convert_store(store.path, place, compress="zstd")
    assert open_store(place).states().tolist() == [1] * 4 + [0] * 6
    copy = convert_store(store.path, place, compress="zstd")
    assert list(copy.records()) == list(store.records())
    np.testing.assert_array_equal(copy.read([9, 0]), cubes[[9, 0], 0])
    back = convert_store(place, tmp_path / "back.zarr")
    assert (back.digest, list(back.records())) == (store.digest, list(store.records()))
    other, _ = make.full(tmp_path / "other.zarr", split_scheme="other")
    with pytest.raises(CacheError, match="is no begun copy"):
        convert_store(other.path, place, compress="zstd")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("zarr.json", b"{", "damaged"),
        ("zarr.json", b" " * (1 << 20), "at most"),
        ("index/key/utf8/c/0", b"x" * 10_000, "at most"),
        ("cubes/zarr.json", b'{"shape": [10000000000]}', "shape of cubes"),
    ],
)
def test_a_strangers_description_is_refused(full, put, name, data, message, monkeypatch):
    monkeypatch.setattr("mastaf.cache.zarr_store.MAX_JSON", 1 << 19)
    store, _ = full
    put(name, data)
    with pytest.raises(CorruptStoreError, match=message):
        open_store(store.path)


def test_a_strangers_shards_and_records(full, put, bucket):
    store, _ = full
    shard = bucket.objects(store.path)[SHARD_1]
    for data, message in [
        (shard[:-1], "wrong checksum"),
        (b"", "cut off"),
        (shard[:10], "cut off"),
        (b"\0" * (2 << 20), "must have at most"),
    ]:
        put(SHARD_1, data)
        again = open_store(store.path)
        with pytest.raises(CorruptStoreError, match=message):
            again.read([4])
        assert {bad.row for bad in verify_store(again)} == {4, 5, 6, 7}
    flipped = bytearray(shard)
    flipped[0] ^= 1
    put(SHARD_1, bytes(flipped))
    assert [(bad.row, bad.reason[:17]) for bad in verify_store(open_store(store.path))] == [(4, "its bytes changed")]
    put("shards/00001/zarr.json", b"x" * (1 << 20))
    with pytest.raises(CorruptStoreError, match="record of shard 1"):
        open_store(store.path).states()


def test_a_shard_replaced_while_it_is_read_is_not_mixed(full, make):
    store, _ = full
    opened = open_store(store.path).open_shard(1)
    make.write(store, 1)  # the failed row again, so other bytes
    with pytest.raises(StoppedError, match="replaced while it was read"):
        opened.row(0)


def test_more_objects_than_a_store_has(full, put, monkeypatch):
    store, _ = full
    monkeypatch.setattr("mastaf.cache.bucket_files._STRAY_OBJECTS", 0)
    for n in range(8):
        put(f"shards/{n}stray", b"")
    with pytest.raises(CorruptStoreError, match="more than 6 objects"):
        open_store(store.path)


def test_places_that_are_no_store(bucket, tmp_path):
    for place, message in [
        ("s3://nowhere/s.zarr", "bucket 'nowhere' does not exist"),
        ("s3://bucket/nope.zarr", "does not exist; make it"),
        ("s3://bucket/s.h5", r"must end in \.zarr: object storage holds Zarr alone"),
        ("s3://bucket", "must be names"),
        ("s3://bucket/a//s.zarr", "single slashes"),
        ("s3://bucket/../s.zarr", "single slashes"),
        ("s3://bucket/50%.zarr", "must do without '%'"),
        ("s3://UPPER/s.zarr", "3 to 63"),
        (Path("s3://bucket/s.zarr"), "a Path has lost a slash"),
    ]:
        with pytest.raises(CacheError, match=message) as refused:
            open_store(place)
        assert refused.value.exit_status == 2


def test_an_address_has_the_names_of_a_path():
    url, path = store_path("s3://bucket/a/b.c.zarr/"), Path("bucket/a/b.c.zarr")
    assert isinstance(url, ObjectUrl)
    assert (url.name, url.stem, url.suffix) == (path.name, path.stem, path.suffix)
    assert str(url.with_name("x.zarr")) == "s3://bucket/a/x.zarr"
    assert str(url / "zarr.json") == "s3://bucket/a/b.c.zarr/zarr.json"
    assert store_path(url) is url
    assert store_path("a/b.zarr") == Path("a/b.zarr")


def test_a_server_that_is_down_is_one_line_and_status_75(full, cli, monkeypatch):
    store, _ = full
    monkeypatch.setattr("mastaf.cache.bucket._RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    status, _, err = cli("info", store.path)
    assert status == 75
    assert err.count("\n") == 1
    assert "run the same command again" in err


def test_no_credentials_are_one_line_and_status_2(cli, bucket, monkeypatch):
    monkeypatch.setattr("mastaf.cache.bucket._RETRIES", 0)
    # Where the cloud's own address is asked, nothing but this machine may answer.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9/169.254.169.254")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    status, _, err = cli("info", "s3://bucket/s.zarr")
    assert (status, err.count("\n")) == (2, 1)
    assert "AWS_ACCESS_KEY_ID" in err


def test_without_the_extra(cli, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr("mastaf.cache.extras.find_spec", lambda name: None if name == "obstore" else found(name))
    status, _, err = cli("info", "s3://bucket/s.zarr")
    assert status == 2
    assert "pip install 'mastaf[s3]'" in err
    assert err.count("\n") == 1


def test_the_commands(full, cli, tmp_path, make):
    store, cubes = full
    status, out, _ = cli("info", store.path, "--json", tmp_path / "i.json")
    assert status == 0
    assert str(store.path) in out
    facts = json.loads((tmp_path / "i.json").read_text())
    local, _ = make.full(tmp_path / "local.zarr")
    assert facts["bytes"] == sum(path.stat().st_size for path in local.path.rglob("*") if path.is_file())
    assert cli("verify", store.path)[0] == 0
    other = store.path.with_name("t.zarr")
    assert cli("convert", store.path, other, "--compress", "zstd")[0] == 0
    np.testing.assert_array_equal(open_store(other).read([9]), cubes[[9], 0])
    assert cli("convert", store.path, store.path.with_name("t.h5"))[0] == 2
    assert cli("unlock", other) == (0, f"{other} is not locked\n", "")


def test_reading_imports_no_zarr(full):
    store, _ = full
    program = (
        "import sys; from mastaf.cache.store import open_store; "
        f"open_store({str(store.path)!r}).read([0]); print(*({{'zarr', 'torch', 'h5py'}} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert found.stdout.split() == []


def test_a_suffix_is_checked_before_anything_is_asked_of_the_network():
    with pytest.raises(CacheError, match="Zarr alone"):
        store_class(ObjectUrl("bucket", "s.h5"))
