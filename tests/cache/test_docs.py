"""Every snippet of docs/store.md runs as it stands, and reads what was written."""

import re
from pathlib import Path

import numpy as np
import pytest
from mastaf.cache.place import ObjectUrl

TEXT = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8")
SNIPPETS = {
    section.splitlines()[0]: code
    for section in TEXT.split("\n## ")
    for code in re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
}

IN_BUCKET = "Object storage"


@pytest.fixture
def there(bucket, make):
    """The store of the section on object storage; returns its cubes."""
    return make.full(ObjectUrl("bucket", "cubes/features.zarr"))[1]


@pytest.fixture
def cubes(tmp_path, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make.full(tmp_path / "features.h5", spec=make.spec(views=("plain", "flip")))
    return make.full(tmp_path / "features.zarr", spec=make.spec(views=("plain", "flip")))[1]


def test_all_snippets_are_found():
    assert set(SNIPPETS) == {"Zarr", "HDF5", "tensorstore", "A memory map", "With mastaf", IN_BUCKET}
    assert TEXT.count("```python") == len(SNIPPETS)


def test_snippet_of_object_storage(there):
    found = {}
    exec(SNIPPETS[IN_BUCKET], found)
    np.testing.assert_array_equal(found["cube"], there[3, 0])


@pytest.mark.parametrize("name", sorted(SNIPPETS.keys() - {IN_BUCKET}))
def test_snippet(name, cubes, make):
    found = {}
    exec(SNIPPETS[name], found)
    index = make.index(10)
    if name == "With mastaf":
        rows = [row for row in range(10) if index.splits[row] == "train" and row != 5]
        np.testing.assert_array_equal(found["cubes"], cubes[rows, 0])
        np.testing.assert_array_equal(found["shard"], cubes[:4])
        return
    np.testing.assert_array_equal(found["cube"], cubes[3, 0])
    if "same" in found:
        np.testing.assert_array_equal(found["same"], cubes[3, 0])
    if "keys" in found:
        assert found["keys"] == list(index.keys)
        assert found["done"] == [True] * 4
        assert found["header"]["dataset"] == "folder"
