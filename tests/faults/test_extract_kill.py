"""Extraction is killed, interrupted, and its ffmpeg killed: the same command ends with the same bits, nothing twice."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mastaf.cache.index import DONE, FAILED
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe

SHARDS = 20
BROKEN = {"class0/20.mp4", "class1/31.ts"}
HANG = "4325.75"  # seconds; tells the process that hangs from all others


@pytest.fixture(scope="module")
def line(clips: Path, extraction: Callable) -> Callable[[Path], list[str]]:
    return lambda out: extraction(clips, out, "--shard-rows", "2", "--batch", "2")


@pytest.fixture(scope="module")
def whole(
    line: Callable, files_of: Callable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, bytes], float]:
    """The files of a run that nothing stopped, and its seconds."""
    out, began = tmp_path_factory.mktemp("whole") / "s.zarr", time.monotonic()
    done = subprocess.run(line(out), env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    store = open_store(out)
    assert store.n_shards == SHARDS
    assert {store.index.keys[row] for row, state in enumerate(store.states()) if state == FAILED} == BROKEN
    assert store.states().tolist().count(DONE) == 38
    return files_of(out), time.monotonic() - began


def records(out: Path) -> int:
    return len(list(out.glob("shards/*/zarr.json")))


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def kill_everything(process: subprocess.Popen[str], descendants: Callable[[int], list[int]]) -> None:
    """The command, and the ffmpegs that it started, which have groups of their own."""
    for pid in (process.pid, *descendants(process.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.communicate()


def finished(out: Path, stamps_of: Callable) -> dict[Path, tuple[int, int]]:
    """Files of the shards that have a record."""
    if not out.exists():
        return {}
    store = open_store(out)
    assert verify_store(store) == []
    whole = [r.shard for r in store.records()]
    names = {out / f"shards/{shard:05d}/zarr.json" for shard in whole} | {store.shard_path(shard) for shard in whole}
    return {path: stamp for path, stamp in stamps_of(out).items() if path in names}


def finish(command: list[str], out: Path, whole: dict[str, bytes], kept: dict, here: Callable, tools: tuple) -> None:
    """The same command again: the bits of a run that nothing stopped, and what was finished is untouched."""
    files_of, stamps_of = tools
    status, err = here(command)
    assert status == 1, err
    assert files_of(out) == whole
    stamps = stamps_of(out)
    assert {path: stamps[path] for path in kept} == kept
    assert [record.generation for record in open_store(out).records()] == [0] * SHARDS


def test_killed_again_and_again(line, whole, start, here, descendants, files_of, stamps_of, tmp_path) -> None:
    """Three kills on the way to one store, each a few shards further."""
    out, draw, kept = tmp_path / "s.zarr", random.Random(0), {}
    for at_least in (0, 6, 13):
        process = start(line(out))
        wait_until(lambda number=at_least: records(out) > number, process)
        time.sleep(draw.uniform(0, 0.03))
        kill_everything(process, descendants)
        now = finished(out, stamps_of)
        assert kept.items() <= now.items()
        kept = now
    finish(line(out), out, whole[0], kept, here, (files_of, stamps_of))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(6))
def test_killed_at_thirty_moments(part, line, whole, start, here, descendants, files_of, stamps_of, tmp_path) -> None:
    """Five a part: the first two at any time of a run, its start included; the others while shards are written."""
    draw, reached, longest = random.Random(part), [], whole[1]
    for number in range(5):
        alive = False
        while not alive:  # a run that was over before its kill does not count
            out = tmp_path / f"{number} {longest}.zarr"
            process = start(line(out))
            if part < 2:
                time.sleep(draw.uniform(0, longest))
            else:
                at_least = draw.randrange(SHARDS - 1)
                wait_until(lambda out=out, least=at_least: records(out) > least, process)
                time.sleep(draw.uniform(0, 0.05))
            alive, longest = process.poll() is None, 0.8 * longest
            kill_everything(process, descendants)
        kept = finished(out, stamps_of)
        reached.append(len(kept) // 2)
        finish(line(out), out, whole[0], kept, here, (files_of, stamps_of))
    print(f"\n5 kills; of {SHARDS} shards were finished at the moment of each: {sorted(reached)}")


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    """An ffmpeg that hangs on one video, in the middle of the data set."""
    exe = tmp_path / "ffmpeg"
    exe.write_text(f'#!/bin/sh\ncase "$*" in *28.mp4*) exec sleep {HANG};; esac\nexec \'{ffmpeg_exe()}\' "$@"\n')
    exe.chmod(0o755)
    return str(exe)


def test_clean_stops(hanging, line, whole, start, here, running, files_of, stamps_of, tmp_path) -> None:
    """SIGINT, then SIGTERM to the same command, while an ffmpeg hangs: it is gone too, and nothing finished is lost."""
    out, kept = tmp_path / "s.zarr", {}
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        process = start(line(out), MASTAF_FFMPEG=hanging)
        wait_until(lambda: records(out) > 5 and running(HANG), process)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == status, err
        assert "the same command continues where it stopped" in err
        assert "Traceback" not in err
        assert not running(HANG)
        now = finished(out, stamps_of)
        assert now
        assert kept.items() <= now.items()
        kept = now
    finish(line(out), out, whole[0], kept, here, (files_of, stamps_of))


def test_an_ffmpeg_killed_from_outside(hanging, line, whole, start, running, tmp_path) -> None:
    """It costs its video, and no other bit."""
    out = tmp_path / "s.zarr"
    process = start(line(out), MASTAF_FFMPEG=hanging)
    wait_until(lambda: running(HANG), process)
    for pid in running(HANG):
        os.kill(pid, signal.SIGKILL)
    shown, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("Traceback")) == (1, 0)
    assert "failed: class0/28.mp4: not a video that ffmpeg can read: the decoder crashed (signal 9)" in shown
    assert open_store(out).states().tolist().count(DONE) == 37
    row = open_store(out).index.keys.index("class0/28.mp4")
    for name, data in whole[0].items():
        of_row = name.endswith((f"c.{row // 2}.0.0.0.0.0", f"{row // 2:05d}/zarr.json"))
        assert of_row or (out / name).read_bytes() == data
