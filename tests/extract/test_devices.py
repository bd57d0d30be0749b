"""Several devices of one machine: the same bits as one, whatever becomes of the processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
import torch
from joblib.externals.loky.process_executor import BrokenProcessPool
from mastaf.cache.attempts import Attempts
from mastaf.cache.errors import StoppedError
from mastaf.cache.index import DONE, FAILED, MISSING
from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone, load_layers
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.engine.one_by_one import BLAMED
from mastaf.extract.engine.tasks import Job, Outstanding, ShardDone, ShardTask, make_tasks
from mastaf.extract.errors import ExtractError
from mastaf.extract.machines import local_processes
from mastaf.extract.machines.deaths import Deaths
from mastaf.extract.machines.devices import resolve_devices
from mastaf.extract.machines.local_processes import LocalProcesses
from mastaf.extract.run import extract_layers

JOB = Job(
    run="one", root=Path(), outs=(), digests=(), load=list, which=(0,), device="", kind="", workers=None, queue=None,
    timeout_s=1, follow_links=False, stop_on_failure=False,
)  # fmt: skip


def files_of(path):
    """Every file of a store but its header, which carries a date: name -> bytes."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if name != "zarr.json"}


@pytest.fixture(scope="module")
def whole(mortal, tmp_path_factory):
    """The store of one process."""
    out = tmp_path_factory.mktemp("whole") / "s.zarr"
    mortal.extract(out)
    return out


@pytest.fixture
def pids(tmp_path, monkeypatch):
    """Where processes leave their ids; they take their time then."""
    folder = tmp_path / "pids"
    folder.mkdir()
    monkeypatch.setenv("MORTAL_PIDS", str(folder))
    monkeypatch.setenv("MORTAL_SLEEP", "0.2")
    return folder


def alive(folder):
    """The processes that run still; one that only nobody waited for does not."""
    states = {path.name: Path(f"/proc/{path.name}/stat") for path in folder.iterdir()}
    return [name for name, stat in states.items() if stat.exists() and ") Z " not in stat.read_text()]


def test_two_processes_write_the_store_of_one(mortal, whole, tmp_path, pids, capfd):
    summary = mortal.extract(tmp_path / "s.zarr", device="cpu,cpu", workers=1, progress=True)
    assert (summary.done, summary.failed, summary.missing) == (20, 0, 0)
    assert summary.decoders == 2
    assert files_of(tmp_path / "s.zarr") == files_of(whole)
    assert len(list(pids.iterdir())) == 3  # with this one, which tried the network once
    assert alive(pids) == [str(os.getpid())]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pids", "s.zarr"]
    Attempts(tmp_path / "s.zarr").open_run("killed")  # its workers have to learn that it is over
    assert mortal.extract(tmp_path / "s.zarr", device="cpu,cpu").skipped == 20
    assert not (tmp_path / "s.zarr.attempts").exists()


def test_layers_views_and_stores_of_any_kind_are_stopped_and_continued(mortal, seams, tmp_path, pids, monkeypatch):
    seams.terminate("--device", "cpu,cpu")
    assert alive(pids) == []
    monkeypatch.delenv("MORTAL_PIDS")
    mortal.run_both(*seams.outs)
    wholes = [tmp_path / "first.zarr", tmp_path / "last.zarr"]
    mortal.run_both(*wholes)
    seams.require_equal(wholes)
    seams.require_tidy()


def test_a_killed_process_costs_its_shard_and_nothing_else(mortal, whole, tmp_path, pids, capsys):
    out = tmp_path / "s.zarr"

    def kill_one():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            others = [name for name in os.listdir(pids) if name != str(os.getpid())]  # noqa: PTH208
            if others and any(out.glob("shards/*/zarr.json")):
                os.kill(int(others[0]), signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = mortal.extract(out, device="cpu,cpu")
    killer.join()
    assert (summary.done, summary.failed) == (20, 0)
    assert len(list(pids.iterdir())) == 4
    assert files_of(out) == files_of(whole)
    assert capsys.readouterr().out == "a process on cpu ended, and what it had not finished is done again\n"


def test_a_video_that_kills_its_process_is_a_failed_row(mortal, whole, tmp_path):
    root, out = mortal.whiten(tmp_path / "videos", "7"), tmp_path / "s.zarr"
    summary = mortal.extract(out, root=root, device="cpu,cpu")
    assert summary.failures == [{"key": "run/7.avi", "reason": BLAMED}]
    assert (summary.done, summary.failed, summary.missing) == (19, 1, 0)
    store, other = open_store(out), open_store(whole)
    rows = [row for row, state in enumerate(store.states()) if state == DONE]
    assert (store.read(rows) == other.read(rows)).all()


def test_a_video_that_kills_its_process_ends_a_run_that_stops_on_failure(mortal, tmp_path):
    root, out = mortal.whiten(tmp_path / "videos", "0"), tmp_path / "s.zarr"
    summary = mortal.extract(out, root=root, device="cpu,cpu", shard_rows=20, on_failure="stop")
    assert summary.stopped_at == "walk/0.avi"
    row = list(open_store(out).index.keys).index("walk/0.avi")
    assert open_store(out).states().tolist() == [DONE] * row + [FAILED] + [MISSING] * (19 - row)


def test_shards_of_a_process_that_died_go_to_all_that_have_nothing_to_do(make_store, tmp_path, monkeypatch):
    """Pools that answer at once, but for the first turn of the first device, which is lost once the other ran dry."""
    store = make_store(tmp_path / "s.zarr", videos=16, shard_rows=1)
    tasks = make_tasks([store], [range(16)], store.index.paths)
    todo = Outstanding([store], tasks)
    turns, held = [], []

    class Pool:
        def submit(self, function, job, given):
            turns.append((job.device, [task.shard for task in given]))
            future = Future()
            if not held:
                held.append(future)
                return future
            future.set_result([ShardDone(task.shard, 1, 0, {}, 1) for task in given])
            if sum(len(shards) for _, shards in turns) == 16:
                threading.Timer(0.5, held[0].set_exception, [BrokenProcessPool("killed")]).start()
            return future

        def shutdown(self, **how):
            pass

    monkeypatch.setattr(local_processes, "_new_pool", Pool)
    devices = [torch.device("cpu", 0), torch.device("cpu", 1)]
    done = [found.shard for found in LocalProcesses(JOB, devices, todo).run()]
    assert sorted(done) == list(range(16))
    lost = turns[0][1]
    again = [turn for turn in turns[1:] if set(turn[1]) & set(lost)]
    assert [shards for _, shards in again] == [[shard] for shard in lost]
    assert {device for device, _ in again} == {"cpu:0", "cpu:1"}


def test_workers_on_several_stores_give_up_when_a_new_run_has_one_of_them(mortal, tmp_path, pids):
    outs = [tmp_path / "first.zarr", tmp_path / "second.zarr"]
    layer = load_backbone("mortal", weights="random").layer
    load = partial(load_layers, "mortal", weights="random", layers=(layer, layer))
    videos = find_dataset("folder", root=mortal.root, split_files=None, seed=0)

    def take_one():
        deadline = time.monotonic() + 60
        while not any(outs[0].glob("shards/*/zarr.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        Attempts(outs[1]).open_run("next")

    taker = threading.Thread(target=take_one)
    taker.start()
    how = {"precision": "fp32", "device": "cpu,cpu", "progress": False, "shard_rows": 2, "batch": 2, "threads": 1}
    with pytest.raises(StoppedError, match=r"no longer this worker's|the run has ended"):
        extract_layers(videos, load(), outs=outs, load=load, **how)
    taker.join()
    assert Attempts(outs[1]).is_open("next")
    assert not (tmp_path / "first.zarr.attempts").exists()


def test_a_process_that_cannot_load_the_network_is_one_line(mortal, tmp_path, monkeypatch):
    from mastaf.extract.machines import spread

    versions = spread.versions_here()
    monkeypatch.setattr(spread, "versions_here", lambda: versions | {"torch": "0.1"})
    with pytest.raises(ExtractError, match=r"worker .* \(pid \d+\): its torch is .*, and that of the run 0.1"):
        mortal.extract(tmp_path / "s.zarr", device="cpu,cpu")


def command_line(mortal, out):
    line = [sys.executable, "-m", "mastaf.extract", "--backbone", "mortal", "--weights", "random", "--dataset"]
    line += ["folder", "--root", mortal.root, "--out", out, "--devices", "cpu,cpu", "--precision", "fp32"]
    return [*line, "--batch", "2", "--shard-rows", "2"]


def test_no_process_outlives_a_main_process_that_is_killed(mortal, tmp_path, pids):
    line = command_line(mortal, tmp_path / "s.zarr")
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(pids.iterdir())) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    assert len(list(pids.iterdir())) == 3
    deadline = time.monotonic() + 30
    while alive(pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(pids) == []


def test_an_interrupt_leaves_no_process_and_is_continued(mortal, whole, tmp_path, pids, monkeypatch):
    out = tmp_path / "s.zarr"
    line = command_line(mortal, out)
    process = subprocess.Popen(
        line, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(out.glob("shards/*/zarr.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: all processes of the command
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.split("\n", 1)[1] == "error: interrupted; the same command continues where it stopped\n"
    assert alive(pids) == []
    assert 0 < open_store(out).states().tolist().count(DONE) < 20
    monkeypatch.delenv("MORTAL_SLEEP")
    mortal.extract(out, device="cpu,cpu")
    assert files_of(out) == files_of(whole)


def test_workers_that_die_all_the_time_stop_the_run():
    deaths = Deaths(workers=2)
    for _ in range(30):
        deaths.one_more("killed")
        deaths.progress()
    with pytest.raises(StoppedError, match="12 workers died one after another and no shard was finished"):
        for _ in range(30):
            deaths.one_more("killed")


def test_each_video_that_is_found_to_kill_workers_is_progress(make_store, tmp_path):
    store = make_store(tmp_path / "s.zarr", videos=8)
    task = ShardTask(shard=0, rows=(tuple(range(8)),), paths={}, generations=(-1,))
    marks, todo = Attempts(store.path), Outstanding([store], [task])
    marks.open_run("one")
    marks.begin(0, "one")
    assert not todo.found_culprits([0])  # all its videos at once
    marks.at_row(marks.begin(0, "one"), 0)
    assert not todo.found_culprits([0])  # it may not be the video: no other was done
    for row in (2, 5, 6):
        marks.at_row(marks.begin(0, "one"), row)
        assert todo.found_culprits([0, 1])
        assert not todo.found_culprits([0])
    marks.begin(0, "one")
    assert not todo.found_culprits([0])


@pytest.mark.parametrize("devices", ["tpu", "cpu,", "cuda:77", ","])
def test_devices_that_are_none(devices):
    with pytest.raises(ExtractError, match="devices"):
        resolve_devices(devices)
