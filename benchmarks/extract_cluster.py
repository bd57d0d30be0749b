"""Extraction through a Dask cluster of three workers on this machine, beside one process with three decoders.

    python benchmarks/extract_cluster.py [--clips 3000] [--rounds 1]

The clips are links to a few that are rendered once; both sides compute with r3d-tiny, float32, one thread a forward
pass, and write the same bits, which is checked. Processor seconds are those of this process and of the cluster's, which
were started beforehand: other work on the machine moves them less than the time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from distributed import Client
from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone, load_layers
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.run import extract

WORKERS = 3
DISTINCT = 24


def render(root: Path, clips: int) -> None:
    """clips files of a second of 112 x 112, in two classes."""
    for number in range(clips):
        path = root / ("walk", "run")[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            source = f"testsrc2=s=112x112:r=16:d=1,hue=h={15 * number}"
            line = [ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264"]
            subprocess.run([*line, "-pix_fmt", "yuv420p", path], check=True)
        else:
            os.link(root / ("walk", "run")[number % 2] / f"{number % DISTINCT}.mp4", path)


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """A scheduler and workers; yields its address and their process ids."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    file = str(folder / "scheduler.json")
    dask = [sys.executable, "-m", "dask"]
    scheduler = [*dask, "scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", file]
    worker = [*dask, "worker", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--scheduler-file", file]
    worker += ["--resources", "mastaf=1", "--local-directory", str(folder)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen(line, **quiet) for line in (scheduler, *[worker] * WORKERS)]
    try:
        with Client(scheduler_file=file, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(WORKERS, timeout=60)
            yield client.scheduler.address, [process.pid for process in processes]
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def cpu_seconds(pids: list[int]) -> float:
    """Processor seconds of processes and of their children that have ended."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return total / ticks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render(folder / "videos", asked.clips)
        videos = find_dataset("folder", root=folder / "videos", split_files=None, seed=0)
        network = load_backbone("r3d-tiny")
        usual = {"precision": "fp32", "device": "cpu", "threads": 1, "progress": False}
        walls: dict[str, list[float]] = {"one process": [], "cluster": []}
        processors: dict[str, list[float]] = {"one process": [], "cluster": []}
        with cluster(folder) as (address, pids):
            sides = {
                "one process": {"workers": WORKERS},
                "cluster": {"cluster": address, "load": partial(load_layers, "r3d-tiny"), "workers": 1},
            }
            for side, options in sides.items():
                # Workers import torch and load the network now; that does not grow with the clips.
                start = time.monotonic()
                extract(videos, network, out=folder / f"first {side}.zarr", limit=24, **usual, **options)
                print(f"{side}: first run, of 24 clips: {time.monotonic() - start:.1f} s", flush=True)
            for turn in range(asked.rounds):
                for side, options in sides.items():
                    out = folder / f"{side} {turn}.zarr"
                    start, before = time.monotonic(), cpu_seconds([os.getpid(), *pids])
                    extract(videos, network, out=out, **usual, **options)
                    walls[side].append(time.monotonic() - start)
                    processors[side].append(cpu_seconds([os.getpid(), *pids]) - before)
        one, other = (open_store(folder / f"{side} 0.zarr") for side in sides)
        assert all(np.array_equal(one.read_shard(i), other.read_shard(i)) for i in range(one.n_shards))
        for side, seconds in walls.items():
            wall, processor = statistics.median(seconds), statistics.median(processors[side])
            print(f"{side}: {wall:.1f} s, {asked.clips / wall:.1f} videos/s, {processor:.1f} processor seconds")
        wall = statistics.median(walls["cluster"]) / statistics.median(walls["one process"]) - 1
        processor = statistics.median(processors["cluster"]) / statistics.median(processors["one process"]) - 1
        print(
            f"overhead of the cluster: {100 * wall:+.1f} % of the time, {100 * processor:+.1f} % of processor seconds"
        )


if __name__ == "__main__":
    main()
