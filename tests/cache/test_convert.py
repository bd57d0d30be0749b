"""Zarr to HDF5 and back."""

import numpy as np
import pytest
from mastaf.cache.convert import convert_store
from mastaf.cache.errors import CacheError, CorruptStoreError
from mastaf.cache.store import open_store


def _files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _other(suffix):
    return ".h5" if suffix == ".zarr" else ".zarr"


def test_there_and_back_is_the_same_store_byte_for_byte(tmp_path, make, suffix):
    spec = make.spec(views=("plain", "flip"))
    store = make.empty(tmp_path / "a" / f"s{suffix}", spec=spec, provenance={"torch": "2"})
    make.write(store, 2, notes={9: "short"})
    make.write(store, 1, failed=(4, 5))
    make.write(store, 1, failed=(5,))  # its second generation; shard 0 stays missing
    middle = convert_store(store.path, tmp_path / "b" / f"s{_other(suffix)}")
    back = convert_store(middle.path, tmp_path / "c" / f"s{suffix}")
    for copy in (middle, back, open_store(back.path)):
        assert copy.header == store.header
        assert copy.index == store.index
        assert copy.digest == store.digest
        assert list(copy.records()) == list(store.records())
        for shard in (1, 2):
            np.testing.assert_array_equal(copy.read_shard(shard).view("u2"), store.read_shard(shard).view("u2"))
    assert _files(tmp_path / "c") == _files(tmp_path / "a")


def test_an_unfinished_copy_is_finished_like_its_source(tmp_path, make, kind):
    suffix, how = kind
    store = make.empty(tmp_path / f"a{suffix}", **how)
    make.write(store, 1, failed=(5,))
    copy = convert_store(store.path, tmp_path / f"b{_other(suffix)}")
    for each in (store, copy):
        for shard in (0, 1, 2):
            make.write(each, shard)
    assert list(copy.records()) == list(store.records())
    assert copy.record(1).generation == 1
    np.testing.assert_array_equal(copy.read(range(10)), store.read(range(10)))


def test_compressing_and_back(tmp_path, make):
    store, cubes = make.full(tmp_path / "a.zarr")
    small = convert_store(store.path, tmp_path / "b.zarr", compress="zstd")
    assert small.mapped(0) is None
    plain = convert_store(small.path, tmp_path / "c.zarr")
    np.testing.assert_array_equal(plain.mapped(0), cubes[:4])
    assert plain.header == store.header
    with pytest.raises(CacheError, match="h5py has no zstd"):
        convert_store(store.path, tmp_path / "d.h5", compress="zstd")


def test_an_existing_target_is_refused(tmp_path, make, suffix):
    store, _ = make.full(tmp_path / f"a{suffix}")
    other, cubes = make.full(tmp_path / f"b{_other(suffix)}")
    for target in (other.path, store.path):
        with pytest.raises(CacheError, match="exists already"):
            convert_store(store.path, target)
    np.testing.assert_array_equal(other.read([0]), cubes[[0], 0])


def test_a_damaged_row_is_named_and_nothing_is_left(tmp_path, make, suffix):
    store, cubes = make.full(tmp_path / f"a{suffix}")
    data = bytearray(store.shard_path(1).read_bytes())
    data[bytes(data).index(cubes[6].tobytes())] ^= 1
    store.shard_path(1).write_bytes(data)
    before = _files(tmp_path)
    with pytest.raises(
        CorruptStoreError, match=rf"clip6' \(row 6\) of .*a{suffix} is damaged; run mastaf-cache verify"
    ):
        convert_store(store.path, tmp_path / f"b{_other(suffix)}")
    assert _files(tmp_path) == before


def test_a_target_of_another_kind_or_no_source(tmp_path, make):
    store, _ = make.full(tmp_path / "a.zarr")
    with pytest.raises(CacheError, match=r"must end in \.zarr or \.h5"):
        convert_store(store.path, tmp_path / "b.npz")
    with pytest.raises(CacheError, match="does not exist"):
        convert_store(tmp_path / "nope.zarr", tmp_path / "b.h5")


def test_what_a_killed_conversion_left_is_removed(tmp_path, make):
    store, _ = make.full(tmp_path / "a.zarr")
    left = tmp_path / ".b.h5.abc123.making"
    (left / "b.h5.shards").mkdir(parents=True)
    (tmp_path / ".bb.h5.abc123.making").mkdir()
    convert_store(store.path, tmp_path / "b.h5")
    assert not left.exists()
    assert (tmp_path / ".bb.h5.abc123.making").exists()


def test_rows_that_no_record_knows_are_not_copied(tmp_path, make, suffix):
    """What a kill between a shard's file and its record leaves."""
    store = make.empty(tmp_path / f"a{suffix}")
    make.write(store, 1, failed=(5,))
    record = store.record(1)
    store.commit(record, make.packed(store, 1))
    assert store.read_shard(1)[1].any()
    copy = convert_store(store.path, tmp_path / f"b{_other(suffix)}")
    assert not copy.read_shard(1)[1].any()
