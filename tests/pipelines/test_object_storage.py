"""From videos to scores with the store in object storage: the same cubes and numbers as from a disk."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mastaf.cache import console
from mastaf.cache.store import open_store
from mastaf.extract.cli import command as extract
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.fewshot.cli import cli as fewshot

ROWS = 18


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three test classes of six tiny videos."""
    root = tmp_path_factory.mktemp("videos")
    for name in ("testsrc", "smptebars", "yuvtestsrc"):
        (root / "test" / name).mkdir(parents=True)
        for n in range(6):
            source = ("-f", "lavfi", "-i", f"{name}=size=48x32:rate=8:duration=1,hue=h={n * 40}")
            video = root / "test" / name / f"{n}.mp4"
            subprocess.run([ffmpeg_exe(), "-v", "error", "-nostdin", *source, str(video)], check=True)
    return root


@pytest.fixture(scope="module")
def arguments(root):
    """Of an extraction, but for --out."""
    words = "--backbone r3d-tiny --dataset folder --devices cpu --precision fp32 --shard-rows 2 --batch 2 --workers 1"
    return [*words.split(), "--root", str(root)]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(command, *words):
        with pytest.raises(SystemExit) as leaving:
            console.run(command, [str(word) for word in words])
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return call


def scores(run, features, bank):
    """(accuracy, predictions) of Neighbor's evaluation."""
    words = ("evaluate", "--features", features, "--variant", "neighbor", "--way", 3, "--episodes", 30)
    status, out, err = run(fewshot, *words, "--bank", bank, "--json", "e.json")
    assert status == 0, err
    assert f"cubes in {bank}" in out
    record = json.loads(Path("e.json").read_text())
    with np.load(Path(record["path"]).parent / record["predictions"]["path"]) as predictions:
        return record["accuracy"], {name: predictions[name] for name in predictions.files}


@pytest.mark.usefixtures("one_thread")
def test_a_killed_extraction_is_finished_and_scored_there(bucket, arguments, run, tmp_path):
    place = bucket.new_place() / "s.zarr"
    process = [sys.executable, "-m", "mastaf.extract", *arguments, "--out", str(place)]
    errors, second = tmp_path / "errors", f"{place.key.rpartition('ü')[2]}/shards/00001/zarr.json"
    with (
        errors.open("w") as stream,
        subprocess.Popen(
            process, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=stream
        ) as running,
    ):
        # Other tests put shards too: the key is of this place.
        while not bucket.requests("PUT", second) and running.poll() is None:
            time.sleep(0.02)
        running.kill()
    assert bucket.requests("PUT", second), errors.read_text()
    before = open_store(place)
    finished = [record.shard for record in before.records()]
    assert 2 <= len(finished) < before.n_shards
    status, out, err = run(extract, *arguments, "--out", place)
    assert status == 0, err
    assert f"done: {ROWS - 2 * len(finished)} videos" in out
    assert run(extract, *arguments, "--out", "s.zarr")[0] == 0
    local, there = open_store("s.zarr"), open_store(place)
    assert list(there.records()) == list(local.records())
    assert there.digest == local.digest
    for shard in range(local.n_shards):
        np.testing.assert_array_equal(there.read_shard(shard), local.read_shard(shard))

    for bank in ("ram", "stream"):
        accuracy, predictions = scores(run, "s.zarr", bank)
        found, same = scores(run, place, bank)
        assert found == accuracy
        for name, values in predictions.items():
            np.testing.assert_array_equal(same[name], values)
    words = ("evaluate", "--features", place, "--variant", "neighbor", "--way", 3, "--bank", "mmap")
    status, _, err = run(fewshot, *words)
    assert (status, err.count("\n")) == (2, 1)
    assert "bank (mmap) must go with a store on a disk" in err


def test_what_cannot_be_there(bucket, arguments, run):
    status, _, err = run(extract, *arguments, "--out", "s3://bucket/s.h5")
    assert (status, err.count("\n")) == (2, 1)
    assert "Zarr alone" in err
    status, _, err = run(extract, *arguments, "--out", "s3://nowhere/s.zarr")
    assert (status, err.splitlines()[-1][:40]) == (2, "error: bucket 'nowhere' does not exist; ")
