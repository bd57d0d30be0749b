"""What the fault tests of extraction share: small videos, and `mastaf-extract` as a process of its own.

make_clip(path, number, *codec)  a file of 12 frames, another picture for each number
clips                            a root of 40 such videos in several containers, two of them broken; never change it
extraction(root, out, *more)     the command, on one thread
here(command)                    run it in this process: its exit status and what it said on stderr
start(command, **environment)    run a command in a process group of its own; ended with the test, whatever happens
files_of(store)                  every file of a store but its header, which has a date: name -> bytes
stamps_of(store)                 inode and time of every file
descendants(pid)                 processes that a process started, directly or not
running(word)                    processes that have the word in their command line
at_flushes(script, store)        see `AtFlushes`
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mastaf.cache import console
from mastaf.extract.cli import command
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-threads", "1")
CODECS = {".mp4": H264, ".avi": ("-c:v", "mpeg4"), ".mkv": H264, ".ts": H264}
RECIPE = ("--backbone", "r3d-tiny", "--weights", "random", "--frames", "4", "--size", "32", "--precision", "fp32")


def run_ffmpeg(*arguments: Any) -> bytes:
    command = [ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def _make_clip(path: Path, number: int, *codec: str, frames: int = 12) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"testsrc2=size=64x48:rate=10:duration={frames / 10},hue=h={47 * number}:s={1 + number % 3}"
    run_ffmpeg("-f", "lavfi", "-i", source, *(codec or CODECS[path.suffix]), path)
    return path


def _extraction(root: Path, out: Path, *more: str) -> list[str]:
    where = ("--dataset", "folder", "--root", str(root), "--out", str(out))
    return [sys.executable, "-m", "mastaf.extract", *RECIPE, "--devices", "cpu", "--workers", "2", *where, *more]


def _files_of(store: Path) -> dict[str, bytes]:
    files = {p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()}
    return {name: data for name, data in files.items() if name != "zarr.json"}


def _stamps_of(store: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in store.rglob("*") if p.is_file()}


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def _descendants(pid: int) -> list[int]:
    parents, found = _parents(), [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def _running(word: str) -> list[int]:
    found = []
    for pid in _parents():
        try:
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


# Imports torch once: each run of `work` is a fork of its own, which kills itself at its n-th flush to disk.
FORKS = """
import json, os, signal, sys
from pathlib import Path

import torch._dynamo  # which every optimiser wants, and which takes seconds

torch.set_num_threads(1)
real, calls, last = os.fsync, 0, 0

def fsync(descriptor):
    global calls
    calls += 1
    if calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
    real(descriptor)

os.fsync = fsync
for out, last in json.loads(sys.argv[2]):
    child = os.fork()
    if child == 0:
        work(Path(sys.argv[1]), Path(out))
        print("flushes", calls, flush=True)
        os._exit(0)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class AtFlushes:
    """`at_flushes(script, store)(out, kill_at, ...)`: `work(store, out)` of the script, killed (SIGKILL) at the flushes
    to disk of these numbers, one after another, and then once more to its end. Returns how often it flushed then."""

    def __init__(self, script: str, store: Path) -> None:
        self._script, self._store = script, store

    def __call__(self, out: Path, *kill_at: int) -> int:
        runs = json.dumps([(str(out), number) for number in (*kill_at, 0)])
        command = [sys.executable, "-c", self._script + FORKS, str(self._store), runs]
        done = subprocess.run(command, timeout=240, check=False, capture_output=True, text=True)
        told = [line.split() for line in done.stdout.splitlines() if line.startswith(("status ", "flushes "))]
        statuses = [int(number) for what, number in told if what == "status"]
        assert statuses == [-signal.SIGKILL] * len(kill_at) + [0], done.stderr
        (flushes,) = [int(number) for what, number in told if what == "flushes"]
        return flushes


@pytest.fixture(scope="session")
def at_flushes() -> type[AtFlushes]:
    return AtFlushes


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    return _make_clip


@pytest.fixture(scope="session")
def extraction() -> Callable[..., list[str]]:
    return _extraction


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return _files_of


@pytest.fixture(scope="session")
def stamps_of() -> Callable[[Path], dict[Path, tuple[int, int]]]:
    return _stamps_of


@pytest.fixture(scope="session")
def descendants() -> Callable[[int], list[int]]:
    return _descendants


@pytest.fixture(scope="session")
def running() -> Callable[[str], list[int]]:
    return _running


@pytest.fixture
def here(one_thread: None, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str]]:
    def run(line: list[str]) -> tuple[int, str]:
        with pytest.raises(SystemExit) as leaving:
            console.run(command, line[3:])  # behind `python -m mastaf.extract`
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def begin(command: list[str], **environment: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        env = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        started.append(subprocess.Popen(command, env=env, start_new_session=True, **pipes))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            for pid in (process.pid, *_descendants(process.pid)):
                os.kill(pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for number in range(40):
        _make_clip(root / f"class{number % 2}" / f"{number:02}{(*CODECS,)[number % len(CODECS)]}", number)
    (root / "class0/20.mp4").write_bytes((root / "class0/20.mp4").read_bytes()[:600])
    (root / "class1/31.ts").write_text("no video")
    return root
