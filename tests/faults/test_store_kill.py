"""A writer of a store is killed (SIGKILL) at every step: what it had finished is there, and the rest can follow."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from mastaf.cache.index import DONE, FAILED, VideoIndex
from mastaf.cache.packing import pack
from mastaf.cache.spec import STORE_DTYPES, FeatureSpec
from mastaf.cache.store import StoreHeader, create_store, open_store, writer_lock
from mastaf.cache.verify import verify_store

N, SHARD_ROWS = 10, 4
SPEC = FeatureSpec(
    backbone="r3d-tiny",
    revision="",
    weights="ab" * 32,
    layer="layer4",
    time="keep",
    frames=16,
    sampling="even",
    resize="squash",
    resize_size=128,
    size=112,
    scaler="bilinear",
    scale=1 / 255,
    offset=0.0,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    precision="fp32",
    dtype="float16",
    views=("plain", "flip"),
    cube_shape=(4, 1, 2, 2),
)
KEYS = tuple(f"walk/clip{i}" for i in range(N))
INDEX = VideoIndex(KEYS, KEYS, ("walk",) * N, ("test",) * N, ("",) * N)
VALUES = np.random.default_rng(0).normal(size=(N, *SPEC.row_shape)).astype("f4")
TRUTH = {dtype: pack(VALUES, dtype)[0] for dtype in STORE_DTYPES}

# What stands on the disk at a step is what a process killed there leaves: copies of it, made in one pass, are many
# times quicker than a kill in a process of its own for each step.
COPIED, KILLED = "copied", "killed"
# tests/cache/test_int8.py stops between the two files that such a shard has.
SOAK = [
    pytest.param(*case, marks=pytest.mark.soak)
    for case in ((".zarr", "", KILLED), (".h5", "", KILLED), (".zarr", "zstd", COPIED), (".zarr", "int8", COPIED))
]

# Runs in a process of its own. It counts the steps of the scenario, and at each copies what is there; or it dies at one
# of them in each of many forks, so that zarr and h5py are imported once.
DRIVER = """
import itertools, json, os, shutil, signal, sys, tempfile, threading
from pathlib import Path

import h5py, zarr  # noqa
sys.path.insert(0, sys.argv[1])
import test_store_kill as scenario
from mastaf.cache import hdf5_store, zarr_store  # noqa

home, suffix, how, kills = Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5] == "killed"
work = home / "work"
step, last = 0, -1

def copy(source, target):
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:  # zarr's threads are at work on a store that is not in place yet
        pass

def count():
    global step
    step += 1
    if step - 1 == last:
        os.kill(os.getpid(), signal.SIGKILL)
    if not kills:
        shutil.copytree(work, home / str(step - 1), copy_function=copy)

def counted(call):
    def wrapped(*arguments, **keywords):
        # zarr works in threads, on files that are not in place yet.
        if threading.current_thread() is threading.main_thread():
            count()
        return call(*arguments, **keywords)
    return wrapped

def sync(descriptor, turn=itertools.count()):
    if next(turn) % 6 == 0:  # a store is some thirty small files: each sixth of them will do
        count()

class HalfWritten:
    def __init__(self, stream):
        self.stream = stream
    def write(self, data):
        half = len(data) // 2
        self.stream.write(data[:half])
        self.stream.flush()
        count()
        self.stream.write(data[half:])
    def __enter__(self):
        return self
    def __exit__(self, *error):
        self.stream.close()

def opened(path, mode="r", *arguments, open=Path.open, **keywords):
    stream = open(path, mode, *arguments, **keywords)
    return HalfWritten(stream) if mode == "wb" else stream

os.fsync, os.rename, os.replace = sync, counted(os.rename), counted(os.replace)
tempfile.mkstemp, tempfile.mkdtemp = counted(tempfile.mkstemp), counted(tempfile.mkdtemp)
Path.open = opened

work.mkdir()
if not kills:
    scenario.run(work, suffix, how)
    print(json.dumps({"steps": step, "status": 0}))
for last in itertools.count() if kills else ():
    folder = home / str(last)
    folder.mkdir()
    child = os.fork()
    if child == 0:
        scenario.run(folder, suffix, how)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        print(json.dumps({"steps": last, "status": status}))
        break
"""


def _write(store, shard, failed=()):
    rows = store.shard_range(shard)
    states = [FAILED if row in failed else DONE for row in rows]
    reasons = {row: "broken" for row in rows if row in failed}
    cubes = TRUTH[store.spec.dtype][rows]
    store.write_shard(shard, cubes.numbers, scales=cubes.scales, states=states, reasons=reasons, notes={}, device="cpu")


def _create(path, how):
    """how: '', 'zstd' or 'int8'."""
    header = StoreHeader(
        spec=replace(SPEC, dtype="int8" if how == "int8" else "float16"),
        dataset="folder",
        split_scheme="folder",
        flip_keeps_class=True,
        shard_rows=SHARD_ROWS,
        compress="zstd" if how == "zstd" else "",
        batch=2,
        threads=1,
    )
    return create_store(path, header=header, index=INDEX)


def run(folder, suffix, how):
    """Create, write shard 1 with a failed row, write shard 0, retry shard 1, convert."""
    from mastaf.cache.convert import convert_store

    store = _create(folder / f"s{suffix}", how)
    _write(store, 1, failed=(5,))
    _write(store, 0)
    _write(store, 1)
    convert_store(store.path, folder / ("t.h5" if suffix == ".zarr" else "t.zarr"))


def _check(path):
    """An existing store opens, vouches for nothing but the truth, and its shards are whole."""
    store = open_store(path)
    assert store.index == INDEX
    assert verify_store(store) == []
    done = np.flatnonzero(store.states() == DONE)
    truth = TRUTH[store.spec.dtype].values()
    for view in (0, 1):
        np.testing.assert_array_equal(store.read(done, view), truth[done, view])
    return store


def _finish(folder, suffix, how):
    """What the same command does when it is run again."""
    path = folder / f"s{suffix}"
    with writer_lock(path):
        store = _check(path) if path.exists() else _create(path, how)
        before = store.states()
        for shard in range(store.n_shards):
            record = store.record(shard)
            if record is None or FAILED in record.states:
                _write(store, shard)
    assert (_check(path).states() == DONE).all()
    return before.tolist()


@pytest.mark.parametrize(("suffix", "how", "stopped"), [(".zarr", "", COPIED), (".h5", "", COPIED), *SOAK])
def test_killed_at_every_step(tmp_path, suffix, how, stopped, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)  # no power is cut here
    arguments = [os.path.dirname(__file__), str(tmp_path), suffix, how, stopped]  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == 0
    assert found["steps"] > 25
    seen = set()
    for step in range(found["steps"]):
        folder = tmp_path / str(step)
        other = folder / ("t.h5" if suffix == ".zarr" else "t.zarr")
        if other.exists():
            assert _check(other).states().tolist() == [DONE] * 8 + [0] * 2
        seen.add(tuple(_finish(folder, suffix, how)))
        left = [path for path in folder.rglob(".*") if f".{other.name}." not in str(path)]
        assert left == [], f"step {step} left {left}"
    # Every state that the scenario passes through was met, and no other.
    assert seen == {
        (0,) * 10,
        (0,) * 4 + (1, 2, 1, 1) + (0,) * 2,
        (1,) * 4 + (1, 2, 1, 1) + (0,) * 2,
        (1,) * 8 + (0,) * 2,
    }


LOOP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_store_kill as scenario
path = Path(sys.argv[2])
store = scenario.open_store(path) if path.exists() else scenario._create(path, sys.argv[3])
print("ready", flush=True)
while True:
    for shard in range(store.n_shards):
        scenario._write(store, shard)
"""


@pytest.mark.soak
@pytest.mark.parametrize("how", ["", "int8"])
@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_killed_at_any_moment(tmp_path, suffix, how):
    rng = random.Random(0)
    path = tmp_path / f"s{suffix}"
    for _ in range(30):
        writer = subprocess.Popen(
            [sys.executable, "-c", LOOP, os.path.dirname(__file__), str(path), how],  # noqa: PTH120
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.3))
        writer.kill()
        writer.wait()
        writer.stdout.close()
        _check(path)
    _finish(tmp_path, suffix, how)
