"""Costs of backbones with heads against the number of frames: table, CSV and plot."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cache.atomic import write_bytes
from ..cache.console import Progress, say, table
from ..cache.errors import StoppedError
from ..extract.backbones.plugins import find_loader
from ..fewshot.methods.registry import find_method
from .cost_plot import plot_costs
from .errors import PipelineError

# Columns of the CSV file; lists are in the JSON alone.
_COLUMNS = (
    *("system", "backbone", "method", "frames", "size", "cube", "precision", "device"),
    *("gflop", "backbone_gflop", "head_gflop", "episode_gflop", "backbone_parameters", "head_parameters"),
    *("ms", "ms_fastest", "backbone_ms", "head_ms", "peak_mb", "idle_mb"),
)


def profile(
    *,
    backbones: Sequence[str],
    methods: Sequence[str],
    frames: Sequence[int],
    size: int | None = None,
    way: int = 5,
    shot: int = 1,
    precision: str = "fp32",
    device: str = "cpu",
    threads: int | None = None,
    repeats: int = 10,
    out: Path = Path("runs/profile"),
) -> dict[str, Any]:
    """Measure every backbone with every head at every number of frames, each in a fresh process.

    Writes `profile.csv` and, with matplotlib, `profile.png` into `out`. Returns {"points", "skipped", "csv", "plot"}
    as plain values: points are what `cost_point.measure` gives, skipped those of which backbone and head do not fit
    together. Raises ExtractError or FewShotError for unknown names, PipelineError when nothing fits, StoppedError
    when a process is ended.
    """
    for name in backbones:
        find_loader(name)
    for name in methods:
        find_method(name)
    out.mkdir(parents=True, exist_ok=True)
    shared = {"size": size, "way": way, "shot": shot, "precision": precision}
    shared |= {"device": device, "threads": threads, "repeats": repeats}
    points: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    wanted = [(b, m, n) for b in backbones for m in methods for n in frames]
    with Progress(len(wanted), "profile", "points") as bar:
        for backbone, method, count in wanted:
            point = {"backbone": backbone, "method": method, "frames": count}
            found = _measure({**point, **shared})
            named = {"system": system_name(method, backbone), **point, **found}
            (skipped if "skipped" in found else points).append(named)
            bar.advance(1, named["system"])
    if not points:
        raise PipelineError(f"nothing could be measured: {skipped[0]['skipped']}")
    _write_csv(out / "profile.csv", points)
    plot = plot_costs(points, out / "profile.png", title=f"{way}-way {shot}-shot")
    return {"points": points, "skipped": skipped, "csv": str(out / "profile.csv"), "plot": plot and str(plot)}


def system_name(method: str, backbone: str) -> str:
    """As the paper has it: MASTAF-{R3D}."""
    return f"{method.upper()}-{{{backbone.upper()}}}"


def _measure(point: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measures, so that no point sees memory, caches or threads of another."""
    command = [sys.executable, "-m", f"{__package__}.cost_point"]
    done = subprocess.run(command, input=json.dumps(point), capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise StoppedError(
            f"the process that measured {point['backbone']} at {point['frames']} frames was ended by signal "
            f"{-done.returncode}, as for want of memory; use a smaller --size or fewer --frames"
        )
    if done.returncode > 0:
        raise RuntimeError(f"measuring {point} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _write_csv(path: Path, points: Sequence[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for point in points:
        writer.writerow({**point, "cube": "x".join(map(str, point["cube"]))})
    write_bytes(path, text.getvalue().encode())


def say_costs(result: dict[str, Any]) -> None:
    """Print the table of `profile`'s result, and where the files are."""
    points = result["points"]
    rows = [
        [
            p["system"],
            str(p["frames"]),
            "x".join(map(str, p["cube"])),
            f"{(p['backbone_parameters'] + p['head_parameters']) / 1e6:.2f}",
            f"{p['gflop']:.2f}",
            f"{p['head_gflop']:.3f}",
            f"{p['ms']:.1f} ({p['ms_quartiles'][0]:.1f} to {p['ms_quartiles'][1]:.1f})",
            f"{p['head_ms']:.2f}",
            f"{p['peak_mb']:.0f}",
        ]
        for p in points
    ]
    heads = [
        "system",
        "frames",
        "cube",
        "M parameters",
        "GFLOP",
        "of it head",
        "ms (quartiles)",
        "of it head",
        "peak MB",
    ]
    say("\n" + table(rows, heads))
    first = points[0]
    idle = f"; of the memory {first['idle_mb']:.0f} MB are Python's and torch's own" if first["idle_mb"] else ""
    say(
        f"\nfor one query video, its support cubes at hand; {first['precision']}, {first['device']}. GFLOP: products "
        f"alone, a multiplication and an addition counted as two{idle}"
    )
    for point in result["skipped"]:
        say(f"left out: {point['system']} at {point['frames']} frames: {point['skipped']}")
    say(f"table: {result['csv']}" + (f"; plot: {result['plot']}" if result["plot"] else ""))
