"""Damage of every kind is found, and the rows that it spoils are named."""

import json

import numpy as np
import pytest
from mastaf.cache.errors import CacheError, CorruptStoreError
from mastaf.cache.store import open_store
from mastaf.cache.verify import count_states, verify_store


@pytest.fixture
def store(tmp_path, make, kind):
    suffix, how = kind
    spec = make.spec(views=("plain", "flip"), cube_shape=(8, 2, 2, 2))
    return make.full(tmp_path / f"s{suffix}", **how, spec=spec)[0]


def _bad(store):
    return {row.row: row.reason for row in verify_store(open_store(store.path))}


def _flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def _record_file(store, shard):
    name = f"shards/{shard:05d}/zarr.json" if store.path.suffix == ".zarr" else f"../s.h5.shards/{shard:05d}.json"
    return (store.path.parent / name.removeprefix("../")) if name.startswith("..") else store.path / name


def test_a_sound_store_has_no_bad_rows(store):
    assert verify_store(store) == []
    assert count_states(store) == {"missing": 0, "done": 9, "failed": 1, "damaged": 0}


def test_progress_counts_every_row(store):
    seen = []
    verify_store(store, advance=seen.append)
    assert seen == [4, 4, 2]


def test_a_flipped_bit_spoils_its_row_alone(store):
    # Byte 10 of the cube of row 6, view 1, wherever it stands in the file.
    if store.header.compress:
        place = store.shard_path(1).stat().st_size // 2
    else:
        raw = store.shard_path(1).read_bytes()
        place = raw.index(store.read_packed(1).numbers[2, 1].tobytes()) + 10
    _flip(store.shard_path(1), place)
    bad = _bad(store)
    assert len(bad) == 1
    (row,) = bad
    assert row in (4, 6, 7)
    if not store.header.compress:
        assert bad == {6: "its bytes changed since they were written (sha256 differs)"}
    key = verify_store(store)[0].key
    assert key == store.index.keys[row]


def test_every_flipped_bit_of_the_cubes_is_found(store):
    path = store.shard_path(2)
    whole = path.read_bytes()
    found = 0
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        _flip(path, place)
        found += bool(_bad(store))
        path.write_bytes(whole)
    # HDF5 leaves unused bytes between its parts; everything else counts.
    used = store.read_packed(2).nbytes / len(whole) if store.path.suffix == ".h5" else 1
    assert found >= 60 * used * 0.9


def test_a_cut_off_shard_spoils_its_rows_and_no_other(store):
    path = store.shard_path(1)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 10, 0):
        path.write_bytes(whole[:length])
        bad = _bad(store)
        assert set(bad) == {4, 5, 6, 7}, length
        assert str(path) in bad[4]
    with pytest.raises(CorruptStoreError, match="file of shard 1"):
        open_store(store.path).read([4])
    assert open_store(store.path).read([0, 8]).shape[0] == 2


def test_a_lost_shard_file_is_named(store):
    store.shard_path(1).unlink()
    bad = _bad(store)
    assert set(bad) == {4, 5, 6, 7}
    assert "is gone" in bad[4]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"attributes": {}}', "\xff", "[" * 100_000, '{"generation": NaN}'])
def test_a_damaged_record_is_named_and_never_taken_for_missing(store, text):
    file = _record_file(store, 1)
    file.write_text(text, encoding="latin-1")
    again = open_store(store.path)
    bad = verify_store(again)
    assert [row.row for row in bad] == [4, 5, 6, 7]
    assert f"record of shard 1 ({file}) is damaged" in bad[0].reason
    assert "delete that file and run the extraction again" in bad[0].reason
    assert count_states(again) == {"missing": 0, "done": 6, "failed": 0, "damaged": 4}
    for call in (again.states, again.reasons, lambda: again.read([4]), lambda: again.record(1)):
        with pytest.raises(CorruptStoreError, match="record of shard 1"):
            call()
    assert again.read([0, 9]).shape[0] == 2
    # The remedy of the message works.
    file.unlink()
    again.refresh()
    assert again.states().tolist() == [1] * 4 + [0] * 4 + [1] * 2


def test_the_record_of_another_shard_is_damage(store):
    _record_file(store, 1).write_bytes(_record_file(store, 0).read_bytes())
    assert "it is the record of shard 0" in _bad(store)[4]


def test_a_wrong_checksum_in_a_record_is_found(store):
    file = _record_file(store, 0)
    record = store.record(0)
    file.write_text(file.read_text().replace(record.sha256[2], "0" * 64))
    assert set(_bad(store)) == {2}


def test_nan_with_a_matching_checksum_is_found(tmp_path, make, suffix, monkeypatch):
    store = make.empty(tmp_path / f"s{suffix}")
    cubes = make.cubes(store, 0)
    cubes[3, 0, 1] = np.inf
    monkeypatch.setattr("mastaf.cache.writing.finite_rows", lambda cubes: np.ones(len(cubes), bool))
    store.write_shard(0, cubes, states=[1] * 4, reasons={}, notes={}, device="cpu")
    assert _bad(store) == {3: "NaN or Inf among its values"}


def test_a_damaged_main_file_is_refused(store):
    main = store.path / "zarr.json" if store.path.suffix == ".zarr" else store.path
    whole = main.read_bytes()
    for data in (whole[: len(whole) // 2], b"", whole[: len(whole) - 40]):
        main.write_bytes(data)
        with pytest.raises(CorruptStoreError, match="is no store of mastaf, or damaged"):
            open_store(store.path)


def test_any_flipped_byte_of_the_main_file_is_an_error_or_harmless(store):
    """Never another exception, whatever HDF5 would make of it, and never another header or index."""
    main = store.path / "zarr.json" if store.path.suffix == ".zarr" else store.path
    whole = main.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 150)):
        _flip(main, place)
        try:
            again = open_store(store.path)
            assert (again.header, again.index) == (store.header, store.index)
        except CacheError:
            pass
        main.write_bytes(whole)


def test_a_changed_text_of_the_index_is_refused(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr")
    for column in ("path", "key", "class", "group"):
        file = store.path / f"index/{column}/utf8/c/0"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + b"#")
        with pytest.raises(CorruptStoreError, match="header or index changed since they were written"):
            open_store(store.path)
        file.write_bytes(whole)


def test_a_header_of_another_version_is_named(tmp_path, make):
    store, _ = make.full(tmp_path / "s.zarr")
    main = store.path / "zarr.json"
    document = json.loads(main.read_text())
    document["attributes"]["mastaf"]["schema"] = 3
    main.write_text(json.dumps(document))
    with pytest.raises(CacheError, match=r"schema \(3\) must be 2: it was made by another version"):
        open_store(store.path)
