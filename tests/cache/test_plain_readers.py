"""zarr-python, h5py, tensorstore and numpy open every store without a warning and read the same values."""

import json
from itertools import pairwise

import h5py
import numpy as np
import pytest
import tensorstore
import zarr
from mastaf.cache.columns import COLUMNS
from mastaf.cache.convert import convert_store
from mastaf.cache.errors import CorruptStoreError
from mastaf.cache.store import open_store


@pytest.fixture(params=[("plain",), ("plain", "flip"), ("plain", "flip", "t1")], ids=["1view", "2views", "3views"])
def written(request, tmp_path, make, kind):
    suffix, compress = kind
    spec = make.spec(views=request.param, cube_shape=(5, 2, 3, 2))
    # Shard 1 is never written, and the last shard is not full.
    store = make.empty(tmp_path / f"s{suffix}", compress=compress, spec=spec, n=11)
    cubes = np.zeros((11, *spec.row_shape), "<f2")
    for shard in (0, 2):
        cubes[store.shard_range(shard)] = make.write(store, shard, failed=(10,))
    return store, cubes


def _tensorstore(path):
    return tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}, read=True).result()


def _texts(utf8, offsets):
    data = utf8.tobytes()
    return tuple(data[a:b].decode() for a, b in pairwise(offsets))


def test_plain_readers_agree(written, tmp_path, monkeypatch):
    store, cubes = written
    monkeypatch.chdir("/")
    columns = store.index.to_columns()
    if store.path.suffix == ".h5":
        with h5py.File(store.path, "r") as file:
            np.testing.assert_array_equal(file["cubes"][:], cubes)
            assert file["cubes"].dtype == np.dtype("<f2")
            assert json.loads(file["header"][:].tobytes()) == store.header.to_json()
            for name in COLUMNS:
                assert _texts(file[f"index/{name}/utf8"][:], file[f"index/{name}/offsets"][:]) == columns[name]
        return
    group = zarr.open_group(store.path, mode="r")
    np.testing.assert_array_equal(group["cubes"][:], cubes)
    np.testing.assert_array_equal(_tensorstore(store.path / "cubes").read().result(), cubes)
    assert group["cubes"].metadata.dimension_names == ("row", "view", "c", "t", "h", "w")
    assert group["cubes"].chunks == (1, 1, *store.spec.cube_shape)
    assert group.attrs["mastaf"] == store.header.to_json()
    for name in COLUMNS:
        parts = [group[f"index/{name}/{part}"][:] for part in ("utf8", "offsets")]
        assert _texts(*parts) == columns[name]
        other = [_tensorstore(store.path / "index" / name / part).read().result() for part in ("utf8", "offsets")]
        assert _texts(*other) == columns[name]
    assert {name for name, _ in group["shards"].members()} == {"00000", "00002"}
    assert dict(group["shards/00002"].attrs) == store.record(2).to_json()


def test_hdf5_pair_moved_together_is_found_by_relative_names(tmp_path, make, monkeypatch):
    _, cubes = make.full(tmp_path / "s.h5")
    place = tmp_path / "moved" / "there"
    place.mkdir(parents=True)
    for name in ("s.h5", "s.h5.shards"):
        (tmp_path / name).rename(place / name)
    for folder, path in ((tmp_path, "moved/there/s.h5"), (place, "s.h5"), ("/", str(place / "s.h5"))):
        monkeypatch.chdir(folder)
        with h5py.File(path, "r") as file:
            np.testing.assert_array_equal(file["cubes"][:], cubes)


def test_shards_written_by_zarr_python_are_read_too(tmp_path, make):
    """In its own order of cubes, which cannot be mapped: nothing in the format forbids it."""
    store = make.empty(tmp_path / "s.zarr", spec=make.spec(views=("plain", "flip")))
    cubes = make.write(store, 0)
    file = store.shard_path(0)
    ours = file.read_bytes()
    zarr.open_group(store.path, mode="r+")["cubes"][:4] = cubes
    assert file.read_bytes() != ours
    again = open_store(store.path)
    with pytest.raises(CorruptStoreError, match=r"another order than mastaf writes.*mastaf-cache convert"):
        again.mapped(0)
    np.testing.assert_array_equal(again.read_shard(0), cubes)
    np.testing.assert_array_equal(again.read([3, 1], 1), cubes[[3, 1], 1])
    np.testing.assert_array_equal(convert_store(store.path, tmp_path / "t.zarr").mapped(0), cubes)


def test_compressed_shards_of_another_encoder_are_read_too(tmp_path, make):
    store = make.empty(tmp_path / "s.zarr", spec=make.spec(views=("plain", "flip")), compress="zstd")
    cubes = make.write(store, 0)
    _tensorstore_write(store.path / "cubes", cubes)
    np.testing.assert_array_equal(open_store(store.path).read_shard(0), cubes)


def _tensorstore_write(path, cubes):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    array = tensorstore.open(spec, write=True, read=True).result()
    array[: len(cubes)].write(cubes).result()
