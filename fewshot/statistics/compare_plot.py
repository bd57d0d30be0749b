"""The plot of a comparison: accuracy against what scoring costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compare import Block
from ..plotting import can_plot, mark, plain_logarithms, save, tidy
from .comparison import ComparedRow


def plot_blocks(blocks: Sequence[Block], path: Path) -> Path | None:
    """Write a PNG with a panel for each store and shot; None, and a line that says so, without matplotlib."""
    if not can_plot():
        return None
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    names = list(dict.fromkeys(row.name for block in blocks for row in block.compared.rows))
    shots = list(dict.fromkeys(row.shot for block in blocks for row in block.compared.rows))
    size = (1.6 + 4.6 * len(shots), 1.2 + 3.6 * len(blocks) + 0.22 * -(-len(names) // 5))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(len(blocks), len(shots), squeeze=False)
    handles: dict[str, Any] = {}
    for block, line in zip(blocks, panels, strict=True):
        for shot, panel in zip(shots, line, strict=True):
            rows = [row for row in block.compared.rows if row.shot == shot]
            handles |= {row.name: _draw(panel, block, row, names.index(row.name)) for row in rows}
            _finish(panel, f"{block.name}, {shot}-shot")
    shown = [name for name in names if name in handles]
    figure.legend([handles[n] for n in shown], shown, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    record = blocks[0].compared.rows[0].record
    what = f"{record['way']}-way accuracy on {record['split']}, {record['episodes']} episodes"
    figure.suptitle(f"{what}, 95 % intervals over episodes", fontsize=11)
    save(figure, path)
    return path


def _draw(panel: Any, block: Block, row: ComparedRow, number: int) -> Any:
    """One row: time an episode, accuracy and its interval."""
    colour, marker = mark(number)
    milliseconds = 1000 / block.cost(row).episodes_per_s
    look = {"color": colour, "marker": marker, "markersize": 6, "capsize": 2, "elinewidth": 0.9, "linestyle": "none"}
    look["zorder"] = 3 - number / 100  # what is named first lies on top
    return panel.errorbar(milliseconds, 100 * row.accuracy, yerr=100 * row.ci95, **look)


def _finish(panel: Any, title: str) -> None:
    panel.set_xscale("log")
    plain_logarithms(panel.xaxis)
    panel.set_xlabel("ms an episode, scored")
    panel.set_ylabel("accuracy in %")
    panel.set_title(title, fontsize=10)
    tidy(panel)
