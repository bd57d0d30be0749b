"""What a step of fine-tuning costs: `tail` against `episodic` on the same episodes, and a frame cache against decoding.

Tail against episodic: seconds an episode and the peak of memory that an update adds, each in a process of its own, on
the same episodes of the same videos; episodic with the whole network, with checkpointing, and with the front frozen.
Frame cache against decoding: rounds over the train clips a second, read from the cache (after it was written) and
decoded anew.

    python benchmarks/finetune.py [--backbone r3d-tiny] [--size 64] [--episodes 40] [--batch 4] [--accumulate 4]
                                  [--clips 10] [--device cpu]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.datasets.motion import render_motion
from mastaf.extract.run import extract
from mastaf.pipelines.finetuning.finetune import finetune
from mastaf.pipelines.finetuning.loop import Loop
from mastaf.pipelines.finetuning.videos import CacheOptions, open_split

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="r3d-tiny")
    parser.add_argument("--weights")
    parser.add_argument("--size", type=int)
    parser.add_argument("--episodes", type=int, default=40)
    parser.add_argument("--clips", type=int, default=10, help="of each class of the rendered data set")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=4, help="episodes an update")
    parser.add_argument("--accumulate", type=int, help="parts of an update  [default: an episode each]")
    parser.add_argument("--recipes", default="episodic,episodic checkpointing,episodic front-frozen,tail")
    parser.add_argument("--one", help="the recipe that this process is to time")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_one(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        render_motion(options.folder / "motion", clips_per_class={"train": options.clips, "val": 1, "test": 1})
        _store(options)
        for recipe in options.recipes.split(","):
            command = [sys.executable, __file__, *sys.argv[1:], f"--one={recipe}", "--folder", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"{recipe:26} {1e3 * found['seconds']:8.1f} ms an episode, {found['mb']:8.1f} MB more at the peak")
        _cache(options)


def _base(options: argparse.Namespace, layer: str | None = None) -> Any:
    return load_backbone(options.backbone, weights=options.weights, size=options.size, layer=layer)


def _store(options: argparse.Namespace) -> None:
    """The cubes of the last stage but one."""
    layer = _base(options).layers[-2]
    videos = find_dataset("folder", root=options.folder / "motion", split_files=None, seed=0)
    how = {"precision": options.precision, "device": options.device, "progress": False}
    extract(videos, _base(options, layer), out=options.folder / "middle.zarr", **how)


def _one(options: argparse.Namespace) -> dict[str, float]:
    """Seconds an episode and MB above the state before the first update, of one recipe."""
    recipe, *flags = options.one.split()
    how: dict[str, Any] = {name: getattr(options, name) for name in ("weights", "precision", "device")}
    how |= {"train_episodes": options.episodes, "batch": options.batch, "select_on": "none"}
    how["accumulate"] = options.accumulate
    how["out"] = options.folder / options.one.replace(" ", "-")
    if recipe == "tail":
        how["features"] = open_store(options.folder / "middle.zarr").path
    else:
        how |= {"dataset": "folder", "root": options.folder / "motion", "backbone": options.backbone}
        how |= {"size": options.size, "augmentations": (), "checkpointing": "checkpointing" in flags}
        how["freeze"] = _base(options).layers[:-1] if "front-frozen" in flags else ()
    times, memory, real = [], [0.0, 0.0], Loop._update

    def timed(self: Loop, batches: Any) -> Any:
        if not times:
            memory[0] = _peak(options.device, reset=True)
        start = time.perf_counter()
        line = real(self, batches)
        times.append(time.perf_counter() - start)
        memory[1] = _peak(options.device)
        return line

    Loop._update = timed
    finetune(recipe=recipe, **how)
    return {"seconds": sorted(times)[len(times) // 2] / options.batch, "mb": (memory[1] - memory[0]) / 2**20}


def _peak(device: str, *, reset: bool = False) -> float:
    """Bytes at the peak so far: of the device's memory, or of the process."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.max_memory_allocated())
    if reset:
        Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory starts anew
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next((int(line.split()[1]) for line in status if line.startswith("VmHWM")), None)
    return 1024.0 * (peak if peak is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _cache(options: argparse.Namespace) -> None:
    """Rounds a second over the train clips."""
    base = _base(options)
    videos = find_dataset("folder", root=options.folder / "motion", split_files=None, seed=0)
    start = time.perf_counter()
    cached = open_split(videos, "train", base, workers=None, cache=CacheOptions(options.folder / "frames", 0))
    filling = time.perf_counter() - start
    rows = cached.rows.tolist()
    start = time.perf_counter()
    for _ in range(ROUNDS):
        for row in rows:
            cached.source.load([row]).sum()
    reading = (time.perf_counter() - start) / ROUNDS
    start = time.perf_counter()
    open_split(videos, "train", base, workers=None).source.close()
    decoding = time.perf_counter() - start
    side = base.pixels.resize_size
    print(f"{len(rows)} clips of {base.frames} x {side} x {side}: filling {filling:.2f} s")
    print(f"decoding {1 / decoding:8.2f} epochs/s, frame cache {1 / reading:8.2f} epochs/s")


if __name__ == "__main__":
    main()
