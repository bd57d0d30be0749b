"""float32 -> float16: rounded like a cast, never Inf, one reason a row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mastaf.cache.packing import finite_rows
from mastaf.cache.store import pack_float16

ANY = st.floats(width=32) | st.sampled_from([65504.0, 65519.0, 65520.0, -65520.0, 1e-8, float("nan"), float("inf")])


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 2), *[st.just(2)] * 4), elements=ANY))
def test_rows_fit_or_are_zeros_with_a_reason(cubes):
    packed, reasons = pack_float16(cubes)
    assert packed.dtype == np.float16
    assert packed.shape == cubes.shape
    assert np.isfinite(packed).all()
    for row, out, reason in zip(cubes, packed, reasons, strict=True):
        with np.errstate(all="ignore"):
            rounded = row.astype(np.float16)
        assert (reason is None) == np.isfinite(rounded).all()
        np.testing.assert_array_equal(out, rounded if reason is None else np.zeros_like(rounded))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (70000.0, "value 70000.0 does not fit float16"),
        (-65520.0, "value -65520.0 does not fit float16"),
        (np.nan, "NaN among the values"),
        (-np.inf, "infinity among the values"),
        (65519.0, None),
        (1e-9, None),
    ],
)
def test_reason_names_the_value(value, reason):
    cubes = np.ones((3, 1, 2, 1, 2, 2), np.float32)
    cubes[1, 0, 1, 0, 1, 0] = value
    assert pack_float16(cubes)[1] == [None, reason, None]


def test_packing_takes_strided_cubes_and_leaves_them_alone():
    cubes = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 2, 2, 1).transpose(1, 0, 3, 2, 4, 5)
    before = cubes.copy()
    packed, reasons = pack_float16(cubes)
    assert reasons == [None, None]
    np.testing.assert_array_equal(packed, before)
    np.testing.assert_array_equal(cubes, before)


def test_finite_rows_is_isfinite():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 16, (200, 3), dtype=np.uint16)
    bits[:20, 0] = 0x7C00  # infinity
    cubes = bits.view(np.float16)
    np.testing.assert_array_equal(finite_rows(cubes), np.isfinite(cubes).all(axis=1))
