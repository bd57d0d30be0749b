"""Whole commands of `mastaf-fewshot` as processes of their own: seconds, and how much memory they took at most.

Stores are of made-up cubes, 2048 x 1 x 7 x 7. `rss` is the peak of resident memory, `anonymous` that of what is not a
page of a file (sampled twenty times a second). Processor seconds stand beside wall-clock ones, because they tell a busy
machine from a slow program.

    python benchmarks/fewshot_runs.py                   10,000 test episodes; training; the ablation; HMDB51's size
    python benchmarks/fewshot_runs.py --what stream     training by streaming from a store of 10 GB
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fewshot_store import HMDB51, make_store

LARGE = {"train": (64, 50_000), "val": (12, 1_926)}  # 10.4 GB


def run(name: str, *arguments: str | Path) -> None:
    """Run a command and print its row."""
    start, before = time.monotonic(), os.times()
    command = [sys.executable, "-m", "mastaf.fewshot", *map(str, arguments)]
    with Path("/dev/null").open("w") as nowhere:
        child = subprocess.Popen(command, stdout=nowhere)
        rss = anonymous = 0
        while child.poll() is None:
            found = memory(child.pid)
            rss, anonymous = max(rss, found.get("VmHWM", 0)), max(anonymous, found.get("RssAnon", 0))
            time.sleep(0.05)
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    if child.returncode:
        sys.exit(f"{name} ended with status {child.returncode}")
    cells = [name, f"{time.monotonic() - start:.1f}", f"{busy:.1f}", f"{rss / 1e6:.0f}", f"{anonymous / 1e6:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def memory(pid: int) -> dict[str, int]:
    """Bytes by name, from the kernel's account of a process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {
        parts[0].rstrip(":"): int(parts[1]) * 1024
        for line in lines
        if len(parts := line.split()) == 3 and parts[2] == "kB"
    }


def resident(folder: Path, episodes: str, device: str) -> None:
    store, full = folder / "hmdb51.zarr", folder / "runs" / "full"
    make_store(store, HMDB51)
    common = ("--features", store, "--batch", "64", "--train-episodes", episodes, "--device", device)
    tested = ("--features", store, "--checkpoint", full, "--device", device)
    run(f"train full, {episodes} episodes", "train", *common, "--out", full)
    run("evaluate full, 10,000 episodes", "evaluate", *tested)
    run("evaluate full, 10,000 episodes, 5-shot", "evaluate", *tested, "--shot", "5")
    run(f"ablate, 4 heads, {episodes} and 10,000 episodes", "ablate", *common, "--out", folder / "ablation")


def stream(folder: Path, episodes: str, device: str) -> None:
    store = folder / "large.zarr"
    make_store(store, LARGE)
    common = ("--features", store, "--batch", "32", "--train-episodes", episodes, "--val-every", episodes)
    common += ("--device", device)
    for bank in ("stream", "mmap"):
        run(f"train full, {episodes} episodes, {bank}", "train", *common, "--bank", bank, "--out", folder / bank)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=["resident", "stream"], default="resident")
    parser.add_argument("--folder", type=Path, help="Of stores and runs, used again  [default: made and removed]")
    parser.add_argument("--train-episodes", default="20000")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        print("| command | seconds | processor seconds | rss, MB | anonymous, MB |")
        print("|---|---|---|---|---|")
        (resident if options.what == "resident" else stream)(folder, options.train_episodes, options.device)


if __name__ == "__main__":
    main()
