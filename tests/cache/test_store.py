"""The contract of every kind of store."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mastaf.cache.errors import CacheError, CorruptStoreError, MissingRowsError, StoppedError
from mastaf.cache.index import DONE, FAILED, MISSING
from mastaf.cache.store import create_store, default_shard_rows, open_store, writer_lock


@pytest.fixture
def empty(new_store, make):
    return new_store(spec=make.spec(views=("plain", "flip")))


def test_new_store_says_what_it_was_made_with(empty, make):
    again = open_store(empty.path)
    assert again.header == empty.header
    assert again.index == make.index(10)
    assert again.n_shards == 3
    assert list(again.shard_range(2)) == [8, 9]
    assert again.states().tolist() == [MISSING] * 10
    assert again.record(0) is None
    assert again.rows_of("val").tolist() == [1, 4, 7]
    assert again.rows_of("val").dtype == np.int64


def test_header_keeps_coverage_and_provenance_of_any_length(tmp_path, make, suffix):
    coverage = [{"split": "train", "class": f"class {i} é", "found": i, "expected": None} for i in range(2000)]
    header = make.header(coverage=coverage, provenance={"command": ["a", "b"], "ignored": {".DS_Store": 2}})
    store = create_store(tmp_path / f"s{suffix}", header=header, index=make.index(3))
    assert open_store(store.path).header == header
    assert len(str(coverage)) > 1 << 16


def test_rows_are_read_back_in_the_order_asked_for(empty, make):
    cubes = np.concatenate([make.write(empty, shard) for shard in (0, 1, 2)])
    order = [9, 0, 5, 5, 3]
    for store in (empty, open_store(empty.path)):
        for view in (0, 1):
            np.testing.assert_array_equal(store.read(order, view), cubes[order, view])
        assert store.read([]).shape == (0, 3, 1, 2, 2)
        np.testing.assert_array_equal(store.read(np.arange(10)), cubes[:, 0])


def test_shards_may_be_written_in_any_order_and_seen_by_an_open_reader(empty, make):
    reader = open_store(empty.path)
    late = make.write(empty, 2)
    assert reader.states().tolist() == [MISSING] * 10
    reader.refresh()
    assert reader.states().tolist() == [MISSING] * 8 + [DONE] * 2
    np.testing.assert_array_equal(reader.read_shard(2), late)
    with pytest.raises(MissingRowsError, match=r"clip3' \(row 3\).* is missing"):
        reader.read([8, 3])


def test_failed_rows_are_zeros_with_a_reason(empty, make):
    expected = make.write(empty, 1, failed=(5,), notes={4: "95 of 100 frames decodable"})
    store = open_store(empty.path)
    assert store.states().tolist() == [0] * 4 + [DONE, FAILED, DONE, DONE] + [0] * 2
    assert store.reasons() == {5: "no video stream"}
    assert store.notes() == {4: "95 of 100 frames decodable"}
    np.testing.assert_array_equal(store.read_shard(1), expected)
    assert not store.read_shard(1)[1].any()
    with pytest.raises(MissingRowsError, match="is failed"):
        store.read([5])


def test_a_shard_of_failed_rows_alone_is_a_file_too(empty, make):
    make.write(empty, 0, failed=(0, 1, 2, 3))
    assert empty.open_shard(0).shape == (4, 2, 3, 1, 2, 2)
    assert not open_store(empty.path).read_shard(0).any()


def test_retry_is_the_next_generation_and_keeps_done_rows(empty, make):
    reader = open_store(empty.path)
    first = make.write(empty, 1, failed=(5,))
    reader.refresh()
    assert reader.record(1).generation == 0
    np.testing.assert_array_equal(reader.read([4]), first[[0], 0])
    second = make.write(empty, 1)
    np.testing.assert_array_equal(second[[0, 2, 3]], first[[0, 2, 3]])
    assert empty.record(1).generation == 1
    reader.refresh()
    assert reader.record(1).generation == 1
    assert reader.reasons() == {}
    np.testing.assert_array_equal(reader.read([5]), second[[1], 0])


def test_a_done_row_must_keep_its_bits(empty, make):
    make.write(empty, 1, failed=(5,))
    with pytest.raises(CacheError, match="must keep its bits"):
        make.write(empty, 1, seed=1)
    with pytest.raises(CacheError, match="must keep its bits"):
        make.write(empty, 1, failed=(4, 5))
    assert open_store(empty.path).record(1).generation == 0


def test_a_second_writer_sees_the_generation_of_the_first(empty, make):
    other = open_store(empty.path)
    make.write(empty, 0, failed=(0, 1))
    make.write(other, 0, failed=(1,))
    make.write(empty, 0)
    assert open_store(empty.path).record(0).generation == 2


def test_maps_are_the_file_itself_and_cannot_be_written(empty, make):
    expected = make.write(empty, 1, failed=(5,))
    mapped = open_store(empty.path).mapped(1)
    assert (mapped is None) == (not empty.can_be_mapped)
    if mapped is None:
        return
    assert mapped.dtype == np.float16
    assert not mapped.flags.writeable
    assert not mapped.flags.owndata
    np.testing.assert_array_equal(mapped, expected)


def test_what_a_writer_may_not_write(empty, make):
    good = make.cubes(empty, 0)
    rest = {"reasons": {}, "notes": {}, "device": "cpu"}
    nan = good.copy()
    nan[2, 1, 0] = np.nan
    for cubes, states, extra, message in [
        (good[:3], [DONE] * 3, {}, r"must be float16 \[4, 2, 3, 1, 2, 2\]"),
        (good.astype("f4"), [DONE] * 4, {}, "must be float16"),
        (good, [DONE] * 3, {}, "one for each of the 4 rows"),
        (nan, [DONE] * 4, {}, "row 2 of the shard holds NaN or Inf"),
        (good, [DONE, DONE, DONE, FAILED], {}, "exactly the failed rows"),
        (good, [DONE] * 4, {"reasons": {2: "why"}}, "exactly the failed rows"),
        (good, [DONE] * 4, {"notes": {4: "other shard"}}, "notes must name rows"),
        (good, [DONE, DONE, DONE, 7], {}, "state 7"),
    ]:
        with pytest.raises(CacheError, match=message):
            empty.write_shard(0, cubes, states=states, **(rest | extra))
    with pytest.raises(MissingRowsError):
        empty.open_shard(0)
    with pytest.raises(CacheError, match=r"shard \(3\) must be from 0 to 2"):
        empty.write_shard(3, good, states=[DONE] * 4, **rest)
    # What fails may hold anything: it is written as zeros.
    empty.write_shard(0, nan, states=[1, 1, 2, 1], **(rest | {"reasons": {2: "NaN among\nthe values"}}))
    assert empty.reasons() == {2: "NaN among the values"}


def test_what_a_reader_may_not_ask_for(empty, make):
    make.write(empty, 0)
    for call, message in [
        (lambda: empty.read([0], view=2), r"view \(2\) must be from 0 to 1"),
        (lambda: empty.read([10]), r"must be from 0 to 9"),
        (lambda: empty.read([-1]), r"must be from 0 to 9"),
        (lambda: empty.mapped(-1), r"shard \(-1\) must be"),
        (lambda: empty.read_shard(1), "shard 1 .* is not extracted yet"),
    ]:
        with pytest.raises(CacheError, match=message):
            call()


def test_digest_depends_on_keys_scheme_and_recipe_alone(tmp_path, make, kind):
    suffix, compress = kind
    first = make.empty(tmp_path / f"a{suffix}", compress=compress)
    same = make.empty(tmp_path / "b.zarr", shard_rows=3, batch=8, dataset="other")
    assert first.digest == same.digest
    others = [
        make.empty(tmp_path / "c.zarr", n=9),
        make.empty(tmp_path / "d.zarr", split_scheme="other"),
        make.empty(tmp_path / "e.zarr", spec=make.spec(frames=8)),
    ]
    assert len({first.digest, *(store.digest for store in others)}) == 4


def test_an_existing_path_is_refused(tmp_path, make, kind):
    suffix, compress = kind
    path = tmp_path / f"s{suffix}"
    path.mkdir()
    with pytest.raises(CacheError, match="exists already"):
        make.empty(path, compress=compress)
    path.rmdir()
    make.empty(path, compress=compress)
    with pytest.raises(CacheError, match="exists already"):
        make.empty(path, compress=compress)


def test_shards_of_a_lost_main_file_are_not_overwritten(tmp_path, make):
    store, _ = make.full(tmp_path / "s.h5")
    store.path.unlink()
    with pytest.raises(CacheError, match=r"s\.h5\.shards exists already"):
        make.empty(tmp_path / "s.h5")
    with pytest.raises(CacheError, match=r"s\.h5\.shards exists already"):
        make.empty(tmp_path / "s.h5")
    assert store.shard_path(0).exists()


def test_a_folder_in_the_way_is_not_taken_for_a_leftover(tmp_path, make):
    (tmp_path / "s.h5.shards").mkdir()
    with pytest.raises(CacheError, match=r"s\.h5\.shards exists already"):
        make.empty(tmp_path / "s.h5")


def test_paths_that_are_no_store(tmp_path, make):
    with pytest.raises(CacheError, match=r"store .*nope\.zarr\) does not exist"):
        open_store(tmp_path / "nope.zarr")
    with pytest.raises(CacheError, match=r"must end in \.zarr or \.h5"):
        open_store(tmp_path)
    with pytest.raises(CacheError, match=r"must end in \.zarr or \.h5"):
        make.empty(tmp_path / "s.npz")
    for suffix in (".zarr", ".h5"):
        file = tmp_path / f"file{suffix}"
        file.write_text("hello")
        folder = tmp_path / f"folder{suffix}"
        folder.mkdir()
        for path in (file, folder):
            with pytest.raises(CorruptStoreError, match="is no store of mastaf, or damaged"):
                open_store(path)


def test_hdf5_has_no_zstd(tmp_path, make):
    with pytest.raises(CacheError, match="leave out --compress"):
        make.empty(tmp_path / "s.h5", compress="zstd")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_index_is_refused(tmp_path, make, suffix):
    with pytest.raises(CacheError, match="at least one video"):
        make.empty(tmp_path / f"s{suffix}", n=0)


def test_nothing_is_left_beside_a_new_store(tmp_path, make, suffix):
    make.full(tmp_path / "new" / f"s{suffix}")
    names = {f"s{suffix}", f"s{suffix}.shards"} if suffix == ".h5" else {f"s{suffix}"}
    assert {entry.name for entry in (tmp_path / "new").iterdir()} == names
    assert not list(tmp_path.rglob(".*"))


def test_odd_names_work(tmp_path, make, kind):
    suffix, compress = kind
    store, cubes = make.full(tmp_path / f"50%b [x] ü{suffix}", compress=compress)
    np.testing.assert_array_equal(open_store(store.path).read([0, 9]), cubes[[0, 9], 0])


def test_a_link_to_a_whole_store_works(tmp_path, make, kind):
    suffix, compress = kind
    store, cubes = make.full(tmp_path / f"real{suffix}", compress=compress)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / f"link{suffix}"
    link.symlink_to(store.path)
    np.testing.assert_array_equal(open_store(link).read([1]), cubes[[1], 0])


def test_a_pickled_store_opens_again(new_store, make):
    store = new_store()
    cubes = make.fill(store)
    store.read([0])
    data = pickle.dumps(store)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data).read([0]), cubes[[0], 0])


def test_a_store_moved_to_another_place_still_opens(tmp_path, make, kind, monkeypatch):
    suffix, compress = kind
    store, cubes = make.full(tmp_path / f"s{suffix}", compress=compress)
    (tmp_path / "moved").mkdir()
    for part in type(store).parts:
        (tmp_path / f"s{suffix}{part}").rename(tmp_path / "moved" / f"s{suffix}{part}")
    monkeypatch.chdir(tmp_path / "moved")
    np.testing.assert_array_equal(open_store(Path(f"s{suffix}")).read([4]), cubes[[4], 0])


def test_few_open_files_are_enough(new_store, make, monkeypatch):
    store = new_store(n=40, shard_rows=1)
    cubes = make.fill(store)
    monkeypatch.setattr("mastaf.cache.base._most_maps", lambda: 2)
    rows = [row for row in range(39, -1, -1) if row != 5]
    np.testing.assert_array_equal(store.read(rows), cubes[rows, 0])
    assert len(store._open) == 2


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "new" / "s.zarr"
    with (
        writer_lock(path),
        pytest.raises(StoppedError, match=r"another process is writing .*s\.zarr"),
        writer_lock(path),
    ):
        pytest.fail("two writers")
    with writer_lock(path):
        pass


def test_a_place_for_no_files_is_not_taken_for_a_held_lock():
    if not Path("/proc/self").is_dir():
        pytest.skip("needs a file system that takes no files, even from root")
    with pytest.raises(CacheError, match="no file can be made in /proc"), writer_lock(Path("/proc/s.zarr")):
        pytest.fail("a lock in /proc")


def test_default_shards_are_at_most_64_rows_and_64_megabytes(make):
    assert default_shard_rows(make.spec(cube_shape=(128, 4, 4, 4))) == 64
    assert default_shard_rows(make.spec(cube_shape=(2048, 16, 14, 14))) == 4
    assert default_shard_rows(make.spec(cube_shape=(2048, 16, 14, 14), views=("plain", "flip"))) == 2
    assert default_shard_rows(make.spec(cube_shape=(2048, 64, 32, 32))) == 1


def test_opening_reads_no_cubes_and_imports_little(tmp_path, make, suffix):
    store, _ = make.full(tmp_path / f"s{suffix}")
    heavy = {"zarr", "torch", "h5py"} - ({"h5py"} if suffix == ".h5" else set())
    program = (
        "import sys; from mastaf.cache.store import open_store; from pathlib import Path; "
        f"open_store(Path({str(store.path)!r})).read([0]); print(*({heavy!r} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.split() == []
