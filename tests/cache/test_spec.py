"""Recipes: what changes the digest, what does not, and how differences are named."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache.errors import CacheError, SpecMismatchError
from mastaf.cache.spec import FeatureSpec

OTHER = {
    "backbone": "r3d",
    "revision": "ef" * 20,
    "weights": "cd" * 32,
    "layer": "layer3",
    "time": "mean",
    "frames": 8,
    "sampling": "middle",
    "resize": "short",
    "resize_size": 256,
    "size": 224,
    "scaler": "bicubic",
    "scale": 1.0,
    "offset": -1.0,
    "mean": (0.0, 0.5, 0.6),
    "std": (1.0, 0.2, 0.2),
    "precision": "bf16",
    "views": ("plain", "flip"),
    "cube_shape": (4, 1, 2, 2),
}


@pytest.mark.parametrize("field", OTHER)
def test_each_field_changes_the_recipe_and_is_named(make, field):
    ours, theirs = make.spec(), make.spec(**{field: OTHER[field]})
    assert ours.recipe != theirs.recipe
    (line,) = ours.diff(theirs)
    assert line.startswith(f"{field}: ")
    with pytest.raises(SpecMismatchError, match=f"a.zarr and b.zarr .*{field}: "):
        ours.require_equal(theirs, here="a.zarr", there="b.zarr")


def test_equal_recipes_have_no_difference(make):
    make.spec().require_equal(make.spec(), here="a", there="b")
    assert make.spec().diff(make.spec()) == []


@given(st.floats(allow_nan=False, allow_infinity=False), st.tuples(*[st.floats(0, 1)] * 3))
def test_json_round_trip_keeps_digests(make, scale, mean):
    spec = make.spec(scale=scale, mean=mean)
    again = FeatureSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.recipe == spec.recipe


def test_the_kind_of_number_does_not_matter(make):
    plain = make.spec(scale=1.0, offset=0.0, frames=16, mean=(0.0, 0.0, 0.0), cube_shape=(3, 1, 2, 2))
    other = make.spec(
        scale=1, offset=np.float32(0), frames=np.int64(16), mean=[0, 0, 0], cube_shape=np.array([3, 1, 2, 2]).tolist()
    )
    assert plain == other
    assert plain.recipe == other.recipe


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cube_shape": (1, 2, 3)}, "cube_shape"),
        ({"cube_shape": (1, 2, 3, 0)}, "four positive sizes"),
        ({"cube_shape": (1, 2, 3, "4")}, "cube_shape"),
        ({"views": ()}, "begin with plain"),
        ({"views": ("flip",)}, "begin with plain"),
        ({"views": ("plain", "t1+left")}, "must be written left\\+t1"),
        ({"views": ("plain", "plain")}, "distinct"),
        ({"dtype": "float32"}, "dtype 'float32' must be one of float16"),
        ({"frames": 16.0}, r"frames \(16.0\) must be int"),
        ({"frames": True}, "frames"),
        ({"scale": float("nan")}, "scale"),
        ({"scale": "1"}, "scale"),
        ({"backbone": 3}, r"backbone \(3\) must be str"),
        ({"mean": "abc"}, "mean"),
    ],
)
def test_wrong_fields_are_named(make, changes, message):
    with pytest.raises(CacheError, match=message):
        make.spec(**changes)


@pytest.mark.parametrize("value", [None, [], "spec", 3])
def test_json_that_is_no_spec(value):
    with pytest.raises(CacheError, match="must be a JSON object"):
        FeatureSpec.from_json(value)


def test_unknown_and_missing_fields_are_named(make):
    value = make.spec().to_json()
    del value["layer"]
    with pytest.raises(CacheError, match=r"missing or unknown fields \(colour, layer\)"):
        FeatureSpec.from_json(value | {"colour": 1})


def test_long_values_are_short_in_words(make):
    (line,) = make.spec().diff(make.spec(weights="cd" * 32))
    assert line == "weights: abababababab... here, cdcdcdcdcdcd... there"
