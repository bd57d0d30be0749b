"""Extraction against its own parts: wall time of a run, of decoding alone and of forward passes alone, same clips.

    python benchmarks/extract.py [--backbones r3d,r3d-tiny] [--clips 300] [--rounds 3] [--memory]

The run cannot be faster than its slowest part, nor than the processor seconds of both parts over the cores. The three
take turns in one process, a round each; what is printed are medians. Videos: H.264, 320 x 240, 7 s for large networks,
and 112 x 112, 1 s for r3d-tiny. With --memory the peak memory of processes that extract 300 and 3,000 clips instead.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mastaf.cache.threads import spin_briefly

spin_briefly()  # as the command does, before torch is loaded
import torch  # noqa: E402
from mastaf.extract.backbones.base import Backbone  # noqa: E402
from mastaf.extract.backbones.registry import load_backbone  # noqa: E402
from mastaf.extract.datasets.by_name import find_dataset  # noqa: E402
from mastaf.extract.datasets.videos import VideoSet  # noqa: E402
from mastaf.extract.decoding.decode import decode_clip  # noqa: E402
from mastaf.extract.decoding.decode_ahead import DecodeAhead  # noqa: E402
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe  # noqa: E402
from mastaf.extract.engine.workers import default_workers, most_decoders  # noqa: E402
from mastaf.extract.machines.devices import resolve_device  # noqa: E402
from mastaf.extract.run import extract  # noqa: E402

BATCH, DISTINCT = 8, 20
LARGE = "testsrc2=s=320x240:r=30:d=7,noise=alls=5:allf=t:all_seed={seed}"
SMALL = "testsrc2=s=112x112:r=16:d=1"


def make_videos(folder: Path, size: int, count: int) -> VideoSet:
    """`count` files in class folders; 20 of them differ, the others are links to those."""
    for number in range(count):
        place = folder / f"class{number % 5}" / f"{number}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            picture = (LARGE if size >= 112 else SMALL).format(seed=number)
            command = f"-v error -f lavfi -i {picture} -c:v libx264 -preset veryfast -crf 26 -pix_fmt yuv420p {place}"
            subprocess.run([ffmpeg_exe(), *command.split()], check=True, stdin=subprocess.DEVNULL)
        else:
            first = number % DISTINCT
            place.hardlink_to(folder / f"class{first % 5}" / f"{first}.mp4")
    return find_dataset("folder", root=folder, split_files=None, seed=0)


def load(name: str) -> Backbone:
    return load_backbone(name, weights=None if name == "r3d-tiny" else "random")


def decode_alone(videos: VideoSet, network: Backbone) -> None:
    """Every clip, decoded with as many threads as a run may have, and thrown away."""
    paths = [videos.root / path for path in videos.index.paths]
    workers = most_decoders()
    clips = DecodeAhead(
        range(len(paths)),
        lambda row: decode_clip(paths[row], frames=network.frames, rule=network.pixels),
        threads=workers,
        workers=workers,
        in_flight=BATCH + 2 * workers,
    )
    for decoded in clips:
        assert decoded.clip is not None, decoded.reason


def forward_alone(run: Callable[[torch.Tensor], object], network: Backbone, count: int) -> None:
    """As many batches as the videos make, of the same pixels."""
    clips = torch.zeros(BATCH, network.frames, network.size, network.size, 3, dtype=torch.uint8)  # [b, t, h, w, 3]
    for _ in range(-(-count // BATCH)):
        run(clips)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, processor seconds of this process and its children)."""

    def used() -> float:
        spent = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        return sum(part.ru_utime + part.ru_stime for part in spent)

    start, before = time.monotonic(), used()
    work()
    return time.monotonic() - start, used() - before


def compare(name: str, count: int, rounds: int) -> str:
    """One row of the table."""
    from mastaf.extract.backbones.inference import prepare

    network, device, cores = load(name), resolve_device("auto"), default_workers()
    run = prepare([network], precision="auto", device=device)
    found: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        videos = make_videos(Path(scratch) / "videos", network.size, count)
        for number in range(rounds):
            decode, decode_cpu = timed(lambda: decode_alone(videos, network))
            forward, forward_cpu = timed(lambda: forward_alone(run, network, count))
            out = Path(scratch) / f"{number}.zarr"
            whole, _ = timed(lambda out=out: extract(videos, network, out=out, progress=False))
            found.append((whole, decode, forward, (decode_cpu + forward_cpu) / cores))
    ratio = statistics.median(whole / max(parts) for whole, *parts in found)
    cells = [f"{statistics.median(column):.1f}" for column in zip(*found, strict=True)]
    idle = statistics.median(1 - forward / whole for whole, _, forward, _ in found)
    return f"| {name} | {count} | {' | '.join(cells)} | {ratio:.2f} | {100 * idle:.0f} % |"


def peak_memory(name: str, count: int) -> float:
    """Peak resident memory in MB of a process of its own that extracts `count` clips."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "videos"
        make_videos(folder, load(name).size, count)
        command = f"-m mastaf.extract --backbone {name} --dataset folder --root {folder} --out {scratch}/s.zarr"
        extra = [] if name == "r3d-tiny" else ["--weights", "random"]
        script = (
            "import resource, subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True, "
            "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        answer = subprocess.run(
            [sys.executable, "-c", script, *command.split(), *extra], check=True, capture_output=True, text=True
        )
        return int(answer.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbones", default="r3d-tiny,r3d")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    names = asked.backbones.split(",")
    if asked.memory:
        print("| backbone | clips | peak memory, MB |\n|---|---|---|")
        for name in names:
            for count in (asked.clips, 10 * asked.clips):
                print(f"| {name} | {count} | {peak_memory(name, count):.0f} |", flush=True)
        return
    print(
        "| backbone | clips | run, s | decode alone, s | forward alone, s | processor s of both / cores | ratio "
        "| device idle |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        print(compare(name, asked.clips, asked.rounds), flush=True)


if __name__ == "__main__":
    main()
