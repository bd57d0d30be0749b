"""A real Dask cluster of three worker processes on loopback: same bits, lost workers, refused workers, interrupts."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from mastaf.cache import console
from mastaf.cache.errors import StoppedError
from mastaf.cache.index import DONE
from mastaf.cache.store import open_store
from mastaf.extract.cli import command
from mastaf.extract.engine.one_by_one import BLAMED
from mastaf.extract.errors import ExtractError
from mastaf.extract.machines import cluster as cluster_module

# What a worker of another machine may lack: a file in $ODD says what. Loaded by `dask worker --preload`, twice.
ODD = """
import os, pathlib, tempfile
ODD = pathlib.Path(os.environ["ODD"])

def hidden(path):
    what = ODD.read_text().split(maxsplit=1)
    return what[:1] == ["hide"] and str(path) == what[1]

def unless_hidden(function):
    return lambda path, *rest, **named: not hidden(path) and function(path, *rest, **named)

for name in ("is_dir", "exists"):
    setattr(pathlib.Path, name, unless_hidden(getattr(pathlib.Path, name)))
os.path.lexists = unless_hidden(os.path.lexists)

from mastaf.cache import attempts
read = attempts.read_json
def read_json(folder, name, read=read, **named):
    if hidden(folder.where(name)):
        raise FileNotFoundError(name)
    return read(folder, name, **named)
attempts.read_json = read_json

make = tempfile.TemporaryFile
def temporary(*rest, make=make, **named):
    if ODD.read_text() == "read-only":
        raise PermissionError(13, "Permission denied")
    return make(*rest, **named)
tempfile.TemporaryFile = temporary
"""


def files_of(path):
    """Every file of a store but its header, which carries a date: name -> bytes."""
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if name != "zarr.json"}


class LocalCluster:
    """A scheduler and workers as processes of their own, as they are started by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pids = folder, folder / "pids"
        self.pids.mkdir()
        self._file = folder / "scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show")
        self.address = self._address()

    def _start(self, what: str, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        line = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self._file), *arguments]
        about = {"OMP_NUM_THREADS": "1", "MORTAL_PIDS": str(self.pids), "MORTAL_SLEEP": "0.1"}
        log = (self.folder / f"{what}{len(self._processes)}.log").open("wb")
        env, files = os.environ | about | environment, {"stdout": log, "stderr": log}
        process = subprocess.Popen(line, env=env, cwd=self.folder, start_new_session=True, **files)
        log.close()
        self._processes.append(process)
        return process

    def workers(self, count: int, *arguments: str, **environment: str) -> "subprocess.Popen[bytes]":
        usual = ("--nworkers", str(count), "--nthreads", "1", "--no-dashboard", "--resources", "mastaf=1")
        return self._start("worker", *usual, "--local-directory", str(self.folder), *arguments, **environment)

    def wait_for(self, count: int) -> None:
        from distributed import Client

        with Client(self.address, set_as_default=False, timeout=60) as client:
            deadline = time.monotonic() + 120
            while len(client.scheduler_info(n_workers=-1)["workers"]) != count and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(client.scheduler_info(n_workers=-1)["workers"]) == count

    def _address(self) -> str:
        import json

        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self._file.exists() and self._file.read_text().strip():
                return json.loads(self._file.read_text())["address"]
            time.sleep(0.05)
        raise AssertionError("no scheduler")

    def stop(self) -> None:
        for process in reversed(self._processes):  # asked to end, workers look for their scheduler first
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def cluster(mortal, bucket, tmp_path_factory):  # workers begin with the variables of object storage
    made = LocalCluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.workers(3)
        made.wait_for(3)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def whole(mortal, tmp_path_factory):
    """The store of one process."""
    out = tmp_path_factory.mktemp("whole") / "s.zarr"
    mortal.extract(out)
    return out


def test_a_cluster_writes_the_store_of_one_process_although_a_worker_is_killed(
    mortal, cluster, whole, tmp_path, capsys, monkeypatch
):
    out = tmp_path / "s.zarr"
    monkeypatch.setattr(cluster_module, "PATIENCE_S", 1)  # it looks at the workers ten times as often

    def kill_one():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            at_work = sorted(cluster.pids.iterdir(), key=lambda path: path.stat().st_mtime)
            if at_work and any(out.glob("shards/*/zarr.json")):
                os.kill(int(at_work[-1].name), signal.SIGKILL)
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = mortal.extract(out, cluster=cluster.address, workers=1)
    killer.join()
    assert (summary.done, summary.failed, summary.missing) == (20, 0, 0)
    assert files_of(out) == files_of(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.zarr"]
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"connecting to {cluster.address}"
    assert told[1].startswith("workers were lost, and their shards are done again: 'tcp://127.0.0.1:")


def test_a_video_that_kills_workers_is_a_failed_row(mortal, cluster, whole, tmp_path):
    cluster.wait_for(3)
    root, out = mortal.whiten(tmp_path / "videos", "7"), tmp_path / "s.zarr"
    summary = mortal.extract(out, root=root, cluster=cluster.address)
    assert summary.failures == [{"key": "run/7.avi", "reason": BLAMED}]
    assert (summary.done, summary.failed, summary.missing) == (19, 1, 0)
    store, other = open_store(out), open_store(whole)
    rows = [row for row, state in enumerate(store.states()) if state == DONE]
    assert (store.read(rows) == other.read(rows)).all()


def test_an_interrupt_stops_the_workers_and_is_continued(mortal, cluster, whole, tmp_path):
    cluster.wait_for(3)
    out = tmp_path / "s.zarr"
    line = [sys.executable, "-m", "mastaf.extract", "--backbone", "mortal", "--weights", "random", "--dataset"]
    line += ["folder", "--root", mortal.root, "--out", out, "--cluster", cluster.address, "--precision", "fp32"]
    line += ["--batch", "2", "--shard-rows", "2"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not any(out.glob("shards/*/zarr.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.split("\n", 1)[1] == "error: interrupted; the same command continues where it stopped\n"
    stopped = files_of(out)
    assert 0 < open_store(out).states().tolist().count(DONE) < 20
    time.sleep(0.5)
    assert files_of(out) == stopped  # nobody is at work any more
    assert mortal.extract(out, cluster=cluster.address).missing == 0
    assert files_of(out) == files_of(whole)


def test_layers_views_and_stores_of_any_kind_are_stopped_and_continued(mortal, cluster, seams, tmp_path):
    cluster.wait_for(3)
    seams.terminate("--cluster", cluster.address)
    mortal.run_both(*seams.outs, "--cluster", cluster.address)
    wholes = [tmp_path / "first.zarr", tmp_path / "last.zarr"]
    mortal.run_both(*wholes)
    seams.require_equal(wholes)
    seams.require_tidy()


@pytest.fixture
def status_and_error(capsys, mortal, tmp_path):
    """Run the command on a cluster's address: (exit status, its one line of error)."""

    def run(address, *arguments):
        line = ["--backbone", "mortal", "--weights", "random", "--dataset", "folder", "--root", mortal.root]
        with pytest.raises(SystemExit) as leaving:
            console.run(command, [*map(str, line), "--out", f"{tmp_path / 's.zarr'}", "--cluster", address, *arguments])
        (error,) = [line for line in capsys.readouterr().err.splitlines() if line]
        assert not (tmp_path / "s.zarr").exists()
        return leaving.value.code, error

    return run


def test_a_scheduler_that_does_not_answer(status_and_error, monkeypatch):
    monkeypatch.setattr(cluster_module, "ANSWER_S", 1)
    status, error = status_and_error("tcp://127.0.0.1:1")
    assert status == 75
    assert "cluster (tcp://127.0.0.1:1) does not answer" in error


@pytest.mark.parametrize(
    "address",
    ["nonsense", "localhost", "tcp://localhost", "tcp://:8786", "localhost:x", "localhost:99999", "http://localhost:1",
     "tcp://[::1:8786", "tcp://localhost:8786/x"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(status_and_error, monkeypatch, address):
    monkeypatch.setattr(cluster_module, "_connect", lambda *arguments: pytest.fail("asked"))
    status, error = status_and_error(address)
    assert status == 2
    assert f"cluster ({address}) must be an address such as tcp://host:8786" in error


def test_workers_without_the_resource(cluster, status_and_error, monkeypatch):
    monkeypatch.setattr(cluster_module, "RESOURCE", "gold")
    status, error = status_and_error(cluster.address)
    assert status == 2
    assert f"dask worker {cluster.address} --nthreads 1 --resources gold=1" in error
    assert "must be one device with --cluster" in status_and_error(cluster.address, "--devices", "cpu,cpu")[1]


def test_a_cluster_without_workers(tmp_path, mortal, capsys):
    empty = LocalCluster(tmp_path)
    try:
        with pytest.raises(StoppedError, match="has no worker; start some: dask worker tcp://"):
            cluster_module.Cluster(empty.address, answer_s=0.5)
        lines = capsys.readouterr().out.splitlines()
        assert lines == [f"connecting to {empty.address}", "waiting for a worker with --resources mastaf=1"]
    finally:
        empty.stop()


@pytest.fixture(scope="module")
def odd(cluster, tmp_path_factory):
    """A fourth worker, which sees what the file that this returns says: set it before it is asked anything."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "odd.py").write_text(ODD)
    (folder / "what").write_text("")
    process = cluster.workers(1, "--no-nanny", "--preload", str(folder / "odd.py"), ODD=str(folder / "what"))
    cluster.wait_for(4)
    yield folder / "what"
    process.terminate()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("hide {root}", "does not see the root"),
        ("hide {root}/run/1.avi", "does not see the video"),
        ("hide {out}", "does not see the store"),
        ("hide {out}.attempts/run.json", "sees a copy of the store"),
        ("read-only", "may not write to"),
        ("weights", "weights of mortal .* have the sha256"),
    ],
)
def test_a_worker_that_lacks_something_is_refused_at_once(mortal, odd, tmp_path, cluster, what, reason, monkeypatch):
    out = tmp_path / "s.zarr"
    odd.write_text(what.format(root=mortal.root, out=out))
    with pytest.raises(ExtractError, match=rf"^worker .* \(pid \d+\): .*{reason}"):
        mortal.extract(out, cluster=cluster.address)
    assert not list(out.glob("shards/*/zarr.json"))
    assert not list(tmp_path.glob("*.attempts"))


def test_a_worker_that_joins_later_is_checked_by_its_first_shard(mortal, odd, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(cluster_module.Cluster, "check", lambda self, job: None)
    odd.write_text(f"hide {mortal.root}")
    with pytest.raises(ExtractError, match=r"^worker .* \(pid \d+\): it does not see the root"):
        mortal.extract(tmp_path / "s.zarr", cluster=cluster.address)
