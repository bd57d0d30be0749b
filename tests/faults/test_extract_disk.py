"""A disk that is full, or that cannot be written: one line, the right status, and the same command finishes."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mastaf.cache.index import DONE
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that has room for a run, until something else fills it."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(path: Path) -> None:
    """Take what is free, down to the last block."""
    with path.open("wb", buffering=0) as stream:
        while True:
            try:
                stream.write(bytes(1024))
            except OSError:
                return


def test_a_disk_that_is_full_then_read_only_then_large(
    disk: Path, clips: Path, extraction: Callable, start: Callable, here: Callable, files_of: Callable, tmp_path: Path
) -> None:
    def run(out: Path) -> tuple[int, str]:
        return here(extraction(clips, out, "--shard-rows", "2", "--batch", "2"))

    out = disk / "s.zarr"
    process = start(extraction(clips, out, "--shard-rows", "2", "--batch", "2"))
    while process.poll() is None and not list(out.glob("shards/*/zarr.json")):
        time.sleep(0.01)
    fill(disk / "ballast")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 75, err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "the disk is full" in lines[0]
    store = open_store(out)
    assert 0 < store.states().tolist().count(DONE) < 38
    assert run(out)[0] == 75  # it does not begin what will not fit
    assert verify_store(store) == []
    kept = files_of(out)
    assert not [name for name in kept if "/." in name]

    subprocess.run(["mount", "-o", "remount,ro,size=60m", str(disk)], check=True)
    status, err = run(out)
    assert status == 2
    assert "Traceback" not in err
    assert str(disk) in err
    assert files_of(out) == kept

    subprocess.run(["mount", "-o", "remount,rw,size=60m", str(disk)], check=True)
    assert run(out)[0] == 1  # two of the videos are broken
    assert run(tmp_path / "whole.zarr")[0] == 1
    whole = files_of(tmp_path / "whole.zarr")
    assert kept.items() <= whole.items()
    assert files_of(out) == whole
