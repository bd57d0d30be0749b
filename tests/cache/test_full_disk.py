"""A full disk stops a run with status 75 and leaves the store as it was."""

import errno
import os
import subprocess

import numpy as np
import pytest
from mastaf.cache import atomic
from mastaf.cache.console import STOPPED
from mastaf.cache.convert import convert_store
from mastaf.cache.errors import StoppedError
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store


def _no_space(*_arguments, **_keywords):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _files(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_shard_that_does_not_fit(tmp_path, make, kind, monkeypatch):
    suffix, compress = kind
    store = make.empty(tmp_path / f"s{suffix}", compress=compress)
    cubes = make.write(store, 0)
    before = _files(tmp_path)
    for call in ("os.fsync", "tempfile.mkstemp"):
        with monkeypatch.context() as patched:
            patched.setattr(call, _no_space)
            with pytest.raises(StoppedError, match=r"the disk is full, so .* run the same command again") as caught:
                make.write(store, 1)
        assert caught.value.exit_status == STOPPED
        assert _files(tmp_path) == before
    again = open_store(store.path)
    assert again.states().tolist() == [1] * 4 + [0] * 6
    np.testing.assert_array_equal(again.read_shard(0), cubes)
    make.write(store, 1)
    assert verify_store(store) == []


def test_a_record_that_does_not_fit(tmp_path, make, kind, monkeypatch):
    suffix, compress = kind
    store = make.empty(tmp_path / f"s{suffix}", compress=compress)
    make.write(store, 1, failed=(5,))
    with monkeypatch.context() as patched:
        patched.setattr("mastaf.cache.ledger.Ledger.put", _no_space)
        with pytest.raises(OSError, match="No space"):
            make.write(store, 1)
    again = open_store(store.path)
    assert again.record(1).generation == 0
    assert verify_store(again) == []
    make.write(again, 1)
    assert again.states().tolist()[4:8] == [1] * 4


def test_a_store_that_does_not_fit(tmp_path, make, suffix, monkeypatch):
    monkeypatch.setattr("os.fsync", _no_space)
    with pytest.raises(StoppedError, match=rf"so .*s{suffix} could not be written"):
        make.empty(tmp_path / f"s{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_stay_what_they_are(tmp_path, monkeypatch):
    def denied(*_arguments):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path))

    monkeypatch.setattr("os.fsync", denied)
    with pytest.raises(PermissionError):
        atomic.write_bytes(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_really_is_full(small_disk, tmp_path, make, suffix):
    spec = make.spec(cube_shape=(2048, 1, 4, 4))
    store = make.empty(small_disk / f"s{suffix}", spec=spec, shard_rows=2)
    written = 0
    with pytest.raises(StoppedError, match="the disk is full"):
        for shard in range(store.n_shards):
            make.write(store, shard)
            written += 1
    assert written > 0
    again = open_store(store.path)
    assert [record.shard for record in again.records()] == list(range(written))
    assert verify_store(again) == []
    assert not list(small_disk.rglob(".*"))
    full = make.full(tmp_path / "big.zarr", spec=spec)[0]
    with pytest.raises(StoppedError, match="the disk is full"):
        convert_store(full.path, small_disk / f"t{suffix}")
    assert not list(small_disk.glob("*t*"))
