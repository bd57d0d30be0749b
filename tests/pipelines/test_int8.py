"""From videos to scores with int8 cubes, from the outside."""

import json
from pathlib import Path

import numpy as np
import pytest
from mastaf.cache import console
from mastaf.cache.cli import cli as cache
from mastaf.cache.store import open_store
from mastaf.extract.cli import command as extract
from mastaf.fewshot.cli import cli as fewshot

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(command, *words):
        with pytest.raises(SystemExit) as leaving:
            console.run(command, [str(word) for word in words])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return call


@pytest.fixture
def arguments(videos, small_motion):
    """Of an extraction of three classes, but for --out and --store-dtype."""
    root = videos(test=tuple(sorted(place.name for place in (small_motion / "test").iterdir())[:3]))
    words = "--backbone r3d-tiny --dataset folder --devices cpu --precision fp32 --shard-rows 10 --batch 10 --root"
    return [*words.split(), root]


def predictions(run, features, bank):
    """Accuracy and logits of Neighbor."""
    words = ("evaluate", "--features", features, "--variant", "neighbor", "--way", 3, "--episodes", 40)
    status, out, err = run(fewshot, *words, "--bank", bank, "--json", "e.json")
    assert status == 0, err
    assert f"cubes in {bank}" in out
    record = json.loads(Path("e.json").read_text())
    with np.load(Path(record["path"]).parent / record["predictions"]["path"]) as found:
        return record["accuracy"], found["logits"]


def test_extracted_rechecked_converted_and_scored(run, arguments):
    int8 = [*arguments, "--store-dtype", "int8"]
    status, out, err = run(extract, *int8, "--out", "q.zarr", "--plan")
    assert (status, "to do: 24 videos" in out) == (0, True), err
    for words in ([*int8, "--out", "q.zarr"], [*arguments, "--out", "f.zarr"]):
        status, _, err = run(extract, *words)
        assert status == 0, err
    small, whole = open_store("q.zarr"), open_store("f.zarr")
    assert small.spec.diff(whole.spec) == ["dtype: int8 here, float16 there"]
    cubes, exact = (store.read(range(24)).astype("f8").reshape(24, -1) for store in (small, whole))
    cosines = (cubes * exact).sum(1) / np.linalg.norm(cubes, axis=1) / np.linalg.norm(exact, axis=1)
    assert 0.999 < cosines.min() < 1

    status, _, err = run(extract, *arguments, "--out", "q.zarr")
    assert (status, err.count("\n")) == (2, 1)
    assert "dtype: int8" in err
    batches = ("--shard-rows", "--batch", "10")
    checked = [word for word in int8 if word not in batches]  # a store keeps its own
    status, out, err = run(extract, *checked, "--out", "q.zarr", "--recheck", 3)
    assert (status, "3 of 24 rows; 3 have the same bits" in out) == (0, True), err
    assert run(cache, "convert", "q.zarr", "q.h5")[0] == 0
    assert run(cache, "verify", "q.h5")[0] == 0

    accuracy, logits = predictions(run, "q.zarr", "ram")
    again = predictions(run, "q.h5", "ram")
    assert again[0] == accuracy
    np.testing.assert_array_equal(again[1], logits)
    # Banks add up products in their own orders; that their cubes are the same is tests/fewshot/test_bank.py's.
    np.testing.assert_allclose(predictions(run, "q.zarr", "stream")[1], logits, rtol=1e-5, atol=1e-5)
    reference = predictions(run, "f.zarr", "ram")[1]
    assert 0 < np.abs(logits - reference).max() < 0.05 * np.abs(reference).max()
    words = ("evaluate", "--features", "q.zarr", "--variant", "neighbor", "--way", 3, "--bank", "mmap")
    status, _, err = run(fewshot, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "bank (mmap) must go with float16 cubes, and these are int8" in err
