"""Index columns as bytes and offsets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache.columns import index_arrays, read_index
from mastaf.cache.errors import CacheError, CorruptStoreError
from mastaf.cache.index import VideoIndex

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)


def _arrays(index):
    return {(column, part): values for column, part, values in index_arrays(index)}


@given(st.lists(st.tuples(TEXT, TEXT, TEXT, st.sampled_from(["train", "val", "test"]), TEXT), unique_by=lambda r: r[1]))
def test_any_text_round_trips(rows):
    index = VideoIndex(*(tuple(column) for column in (zip(*rows, strict=True) if rows else [[]] * 5)))
    arrays = _arrays(index)
    assert read_index(lambda column, part: arrays[column, part]) == index


def test_names_that_are_no_unicode_are_named():
    odd = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    with pytest.raises(CacheError, match=r"path 'caf\\udce9.mp4' must be Unicode text; rename"):
        list(index_arrays(VideoIndex((odd,), ("k",), ("c",), ("test",), ("",))))


@pytest.mark.parametrize(
    ("column", "part", "values"),
    [
        ("key", "offsets", [0, 3, 2, 6]),
        ("key", "offsets", [1, 2, 3, 6]),
        ("key", "offsets", [0, 2, 4, 7]),
        ("key", "offsets", [0, 2, 4]),
        ("key", "offsets", [0, -2, 4, 6]),
        ("key", "offsets", []),
        ("key", "utf8", [0xFF] * 6),
        ("key", "utf8", [97] * 6),
        ("split", "utf8", [97] * 15),
        ("group", "offsets", [0, 0]),
    ],
)
def test_damaged_columns_are_refused(column, part, values):
    index = VideoIndex(("a", "b", "c"), ("k1", "k2", "k3"), ("x",) * 3, ("train",) * 3, ("",) * 3)
    arrays = _arrays(index)
    arrays[column, part] = np.array(values, arrays[column, part].dtype)
    with pytest.raises(CorruptStoreError):
        read_index(lambda column, part: arrays[column, part])


def test_index_checks_itself():
    with pytest.raises(CacheError, match="two videos have the key 'k'"):
        VideoIndex(("a", "b"), ("k", "k"), ("x",) * 2, ("train",) * 2, ("",) * 2)
    with pytest.raises(CacheError, match="split 'dev' must be one of"):
        VideoIndex(("a",), ("k",), ("x",), ("dev",), ("",))
    with pytest.raises(CacheError, match="one length"):
        VideoIndex(("a",), ("k", "l"), ("x",), ("test",), ("",))
    index = VideoIndex(("a", "b"), ("k", "l"), ("y", "x"), ("train", "train"), ("", ""))
    assert index.classes_of("train") == ["x", "y"]
    assert "2 videos: train 2, val 0, test 0; 2 classes" in repr(index)
