"""The plot of costs against frames, after Figures 4 and 5 of the paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..fewshot.plotting import can_plot, mark, plain_logarithms, save, tidy

_PANELS = (("gflop", "GFLOP"), ("ms", "latency in ms"), ("peak_mb", "peak memory in MB"))
_WIDE = 20.0  # a range of values above this factor is shown in logarithms


def plot_costs(points: Sequence[dict[str, Any]], path: Path, *, title: str) -> Path | None:
    """Write a PNG with one panel for each cost; None, and a line that says so, without matplotlib."""
    if not can_plot():
        return None
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    systems = list(dict.fromkeys(point["system"] for point in points))
    figure = Figure(figsize=(10.5, 3.9), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(_PANELS))
    for panel, (name, label) in zip(panels, _PANELS, strict=True):
        for number, system in enumerate(systems):
            _draw(panel, [point for point in points if point["system"] == system], name, number)
        _finish(panel, points, name, label)
    place = f"{title}, {points[0]['precision']}, {points[0]['device']}"
    figure.suptitle(f"Cost of one query video ({place})", fontsize=11)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(systems)), frameon=False)
    save(figure, path)
    return path


def _draw(panel: Any, points: Sequence[dict[str, Any]], name: str, number: int) -> None:
    """One system's line; of latency its quartiles too."""
    ordered = sorted(points, key=lambda point: point["frames"])
    frames, values = [p["frames"] for p in ordered], [p[name] for p in ordered]
    colour, marker = mark(number)
    panel.plot(frames, values, color=colour, marker=marker, markersize=5, linewidth=1.6, label=ordered[0]["system"])
    if name == "ms":
        low, high = zip(*(p["ms_quartiles"] for p in ordered), strict=True)
        panel.fill_between(frames, low, high, color=colour, alpha=0.2, linewidth=0)


def _finish(panel: Any, points: Sequence[dict[str, Any]], name: str, label: str) -> None:
    """Axes: frames that were measured as ticks; from zero, or in logarithms where systems lie far apart."""
    values = [point[name] for point in points]
    if name == "ms":
        values += [point["ms_quartiles"][1] for point in points]
    if max(values) > _WIDE * min(values):
        panel.set_yscale("log")
        plain_logarithms(panel.yaxis)
    else:
        panel.set_ylim(0, 1.12 * max(values))
    panel.set_xticks(sorted({point["frames"] for point in points}))
    panel.set_xlabel("frames")
    panel.set_title(label, fontsize=10)
    tidy(panel)
