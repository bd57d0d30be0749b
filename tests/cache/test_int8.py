"""int8 cubes: float32 rounded to int8 times scales, and what a store does with scales that are damaged or gone."""

import bisect
import json
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mastaf.cache.convert import convert_store
from mastaf.cache.errors import CacheError, CorruptStoreError, MissingRowsError
from mastaf.cache.export import export_store
from mastaf.cache.index import DONE
from mastaf.cache.packed import Packed
from mastaf.cache.packing import pack_float16, pack_int8
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store

EDGES = [0.0, 65504.0, 65519.0, -65519.0, 65520.0, 2.0**-24, 2.0**-25, 1e-5, -7.5e-6, 1e-38, float("nan"), float("inf")]
SMALL, USUAL = st.floats(-(2.0**-14), 2.0**-14, width=32), st.floats(-100, 100, width=32)
SHAPES = st.tuples(st.integers(1, 3), *[st.integers(1, 2)] * 5)
# Every float16 from 0 up: bit patterns in order are values in order.
FLOAT16 = [float(value) for value in np.arange(0x7C00, dtype=np.uint16).view(np.float16)]


def slow_scale(values):
    """The scale of one channel: the nearest float16 by a search among all of them, ties to even bits."""
    peak = max(abs(Fraction(float(value))) for value in values)
    high = min(bisect.bisect_left(FLOAT16, peak, key=lambda value: Fraction(value) * 127), len(FLOAT16) - 1)
    low = max(high - 1, 0)
    gaps = [abs(Fraction(FLOAT16[i]) - peak / 127) for i in (low, high)]
    best = low if gaps[0] < gaps[1] or (gaps[0] == gaps[1] and low % 2 == 0) else high
    while FLOAT16[best] * 127 > 65504:
        best -= 1
    while Fraction(FLOAT16[best]) * 255 < 2 * peak:
        best += 1
    return FLOAT16[best]


@settings(max_examples=120, deadline=None)
@given(hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32) | USUAL | SMALL | st.sampled_from(EDGES)))
def test_each_number_is_the_nearest_and_each_scale_exact(cubes):
    numbers, scales, reasons = pack_int8(cubes)
    assert (numbers.dtype, scales.dtype) == (np.int8, np.float16)
    assert (numbers.shape, scales.shape) == (cubes.shape, cubes.shape[:3])
    assert reasons == pack_float16(cubes)[1]
    values = Packed(numbers, scales).values()
    assert np.isfinite(values).all()
    for row, view, c in np.ndindex(*cubes.shape[:3]):
        scale, of_channel = float(scales[row, view, c]), numbers[row, view, c].ravel().tolist()
        if reasons[row] is not None:
            assert (scale, any(of_channel)) == (0, False)
            continue
        channel = cubes[row, view, c].ravel().tolist()
        assert scale == slow_scale(channel)
        for x, q, value in zip(channel, of_channel, values[row, view, c].ravel(), strict=True):
            assert abs(q) <= 127
            assert abs(Fraction(x) - q * Fraction(scale)) <= Fraction(scale) / 2
            assert value == np.float16(q * scale)


def test_packing_takes_strided_cubes_and_leaves_them_alone():
    cubes = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 2, 2, 1).transpose(1, 0, 3, 2, 4, 5)
    before = cubes.copy()
    numbers, scales, _ = pack_int8(cubes)
    again = pack_int8(np.ascontiguousarray(cubes))
    np.testing.assert_array_equal(numbers, again[0])
    np.testing.assert_array_equal(scales, again[1])
    np.testing.assert_array_equal(cubes, before)


def make_int8(make, path, **changes):
    return make.full(path, dtype="int8", spec=make.spec(views=("plain", "flip")), **changes)


def damage_scale(store, shard, slot, value):
    """Put `value` in place of the scale of a row's view 1, channel 2."""
    views, c = store.spec.row_shape[:2]
    if store.path.suffix == ".zarr":
        file, first = store.path / f"scales/c.{shard}.0.0", 0
    else:
        file = store.shard_path(shard)
        first = file.read_bytes().index(store.read_packed(shard).scales.tobytes())
    data = bytearray(file.read_bytes())
    place = first + 2 * ((slot * views + 1) * c + 2)
    data[place : place + 2] = np.float16(value).tobytes()
    file.write_bytes(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 516.0, -0.0, 0.5])
def test_a_damaged_scale_spoils_its_row_alone(tmp_path, make, suffix, value):
    store, cubes = make_int8(make, tmp_path / f"s{suffix}")
    damage_scale(store, 1, 2, value)
    again = open_store(store.path)
    assert [bad.row for bad in verify_store(again)] == [6]
    np.testing.assert_array_equal(again.read([4, 7], 1), cubes[[4, 7], 1])
    np.testing.assert_array_equal(again.read([6], 0), cubes[[6], 0])
    if value != 0.5:  # a number like any other: checksums alone tell
        for call in (lambda: again.read([6], 1), lambda: again.read_shard(1)):
            with pytest.raises(CorruptStoreError, match=r"scales .* must be from 0 to 515\.5; run mastaf-cache verify"):
                call()
    for copy in (convert_store, lambda path, out: export_store(open_store(path), out, format="npz")):
        with pytest.raises(CorruptStoreError, match=r"\(row 6\) .* is damaged"):
            copy(store.path, tmp_path / "copy.zarr")


def test_a_number_that_is_never_written_is_never_taken_for_a_value(tmp_path, make):
    """-128 times the largest scale is no float16."""
    values = Packed(np.full((1, 1, 1, 1), -128, np.int8), np.array([515.5], "<f2")).values()
    assert np.isinf(values).all()


def test_scales_that_are_gone_or_cut_off(tmp_path, make):
    store, cubes = make_int8(make, tmp_path / "s.zarr")
    file = store.path / "scales/c.1.0.0"
    whole = file.read_bytes()
    for damage, words in [
        (lambda: file.write_bytes(whole[:-1]), "have 47 bytes, not 48"),
        (lambda: file.write_bytes(b""), "have 0 bytes, not 48"),
        (lambda: file.write_bytes(whole + b"x"), "must be at most 48 bytes"),
        (file.unlink, "are gone; delete the shard's record"),
    ]:
        damage()
        again = open_store(store.path)
        bad = verify_store(again)
        assert [row.row for row in bad] == [4, 5, 6, 7]
        assert words in bad[0].reason
        assert str(file) in bad[0].reason
        np.testing.assert_array_equal(again.read([0, 8]), cubes[[0, 8], 0])
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptStoreError, match="symbolic link"):
        open_store(store.path).read([4])


@pytest.mark.parametrize("lost", ["scales", "scales/zarr.json"])
def test_an_int8_store_without_its_array_of_scales_is_none(tmp_path, make, lost):
    store, _ = make_int8(make, tmp_path / "s.zarr")
    place = store.path / lost
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    with pytest.raises(CorruptStoreError, match="is no store of mastaf, or damaged"):
        open_store(store.path)


@pytest.mark.parametrize(
    ("key", "value"), [("shape", [10, 2, 4]), ("data_type", "float32"), ("codecs", [{"name": "gzip"}])]
)
def test_other_descriptions_of_scales_are_refused(tmp_path, make, key, value):
    store, _ = make_int8(make, tmp_path / "s.zarr")
    file = store.path / "scales/zarr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(CorruptStoreError, match=f"{key} of scales"):
        open_store(store.path)


@pytest.mark.parametrize("failed", [(), (5,)])
def test_stopped_between_cubes_and_scales(tmp_path, make, monkeypatch, failed):
    """The first generation of a shard is not there then; in the next one done rows are as they were."""
    store = make.empty(tmp_path / "s.zarr", dtype="int8")
    before = make.write(store, 1, failed=failed) if failed else np.empty(0)
    write = type(store._files).write

    def stop(files, name, parts):
        if name.startswith("scales/"):
            raise KeyboardInterrupt
        write(files, name, parts)

    with monkeypatch.context() as patched:
        patched.setattr(type(store._files), "write", stop)
        with pytest.raises(KeyboardInterrupt):
            make.write(store, 1)
    again = open_store(store.path)
    assert verify_store(again) == []
    if failed:
        np.testing.assert_array_equal(again.read([4, 6, 7]), before[[0, 2, 3], 0])
    else:
        with pytest.raises(MissingRowsError, match="not extracted yet"):
            again.open_shard(1)
    after = make.write(again, 1)
    np.testing.assert_array_equal(again.read_shard(1), after)
    assert verify_store(again) == []


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_what_is_read_packed_is_written_again_with_its_bits(tmp_path, make, suffix):
    """Rounding what was rounded would change scales, so a retry takes them as they are."""
    store = make.empty(tmp_path / f"s{suffix}", dtype="int8", n=4, spec=make.spec(cube_shape=(200, 1, 2, 2)))
    packed = make.packed(store, 0)
    about = {"reasons": {1: "torn"}, "notes": {}, "device": "cpu"}
    store.write_shard(0, packed.numbers, scales=packed.scales, states=[1, 2, 1, 1], **about)
    raw = store.read_packed(0)
    raw.put(1, packed[1])
    store.write_shard(0, raw.numbers, scales=raw.scales, states=[DONE] * 4, **(about | {"reasons": {}}))
    found = open_store(store.path).read_packed(0)
    for part, expected in zip(found.parts, packed.parts, strict=True):
        assert part.tobytes() == expected.tobytes()
    assert store.record(0).generation == 1
    rounded = pack_int8(packed.values().astype("f4"))
    assert rounded[1].tobytes() != packed.scales.tobytes()


def test_compressed_int8_is_the_same(tmp_path, make):
    plain, cubes = make_int8(make, tmp_path / "a.zarr")
    small = convert_store(plain.path, tmp_path / "b.zarr", compress="zstd")
    assert list(small.records()) == list(plain.records())
    done = [row for row in range(10) if row != 5]
    for view in (0, 1):
        np.testing.assert_array_equal(small.read(done, view), cubes[done, view])
    assert verify_store(small) == []
    assert (plain.mapped(0), small.mapped(0), plain.can_be_mapped) == (None, None, False)


def test_types_do_not_mix(tmp_path, make):
    int8, float16 = (make.empty(tmp_path / f"{dtype}.zarr", dtype=dtype) for dtype in ("int8", "float16"))
    packed, cubes = make.packed(int8, 0), make.packed(float16, 0)
    about = {"states": [DONE] * 4, "reasons": {}, "notes": {}, "device": "cpu"}
    for store, numbers, scales, words in [
        (int8, cubes.numbers, None, r"cubes \(float16 .* must be int8"),
        (int8, packed.numbers, None, r"scales \(none\) must be \[4, 1, 3\]"),
        (int8, packed.numbers, packed.scales[:, :, :2], r"scales \(\[4, 1, 2\]\) must be"),
        (int8, np.full_like(packed.numbers, -128), packed.scales, "row 0 .* pack_int8 does not give"),
        (float16, packed.numbers, packed.scales, r"cubes \(int8 .* must be float16"),
        (float16, cubes.numbers, packed.scales, "none for float16"),
    ]:
        with pytest.raises(CacheError, match=words):
            store.write_shard(0, numbers, scales=scales, **about)


def test_half_the_bytes(tmp_path, make):
    spec = make.spec(cube_shape=(64, 1, 7, 7))
    sizes = {}
    for dtype in ("float16", "int8"):
        store, _ = make.full(tmp_path / f"{dtype}.h5", spec=spec, dtype=dtype, n=4)
        sizes[dtype] = store.shard_path(0).stat().st_size
    numbers = 4 * math.prod(spec.cube_shape)
    assert sizes["float16"] - sizes["int8"] > 0.9 * numbers
