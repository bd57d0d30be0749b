"""Charts over many results: learning curves of runs, and accuracies against shots and ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...fewshot.training.stream import TRAIN_SCORED
from .charts import COLOURS, LineChart, Point, line_chart
from .trained_runs import TrainedRun

MOST_CURVES = 40
MOST_POINTS = 200  # of a line; of a longer one, evenly spread ones


@dataclass(frozen=True)
class Score:
    """One row of a table. cubes: words for what was scored; head: its name; record: of its first seed."""

    cubes: str
    head: str
    record: dict[str, Any]
    accuracy: float
    interval: tuple[float, float]


def learning_curves(runs: Sequence[TrainedRun]) -> tuple[list[tuple[LineChart, str]], str]:
    """(chart, what its intervals and counts are) of each run, and what was left out, in words.

    A run with one validation has no curve; its number is in the table of runs.
    """
    found = [chart for run in runs for chart in _of_run(run)]
    over = len(found) - MOST_CURVES
    return found[:MOST_CURVES], f"{over} more curves are left out; report fewer runs to see them." if over > 0 else ""


def _of_run(run: TrainedRun) -> list[tuple[LineChart, str]]:
    charts = []
    series = []
    for name, n in (("val", run.val_n), ("train", TRAIN_SCORED if run.kind == "head" else None)):
        needed = {f"{name}_accuracy", f"{name}_ci95"}
        points = [_share(line, name, run.unit) for line in run.lines if needed <= set(line)]
        if len(points) > 1 and n is not None:
            series.append((f"{_split(run, name)} (n = {n:,} episodes)", _thinned(points)))
    axis = f"{'training ' if run.kind == 'head' else ''}{run.unit}"
    if series:
        caption = "Bands: 95 % intervals over these n episodes, the same at every point."
        charts.append((line_chart(run.name, series, x_name=axis, y_name="Accuracy in %"), caption))
    told = [line for line in run.lines if "loss" in line]
    losses = [Point(line["at"], line["loss"], None, None, f"{line['loss']:.4g}") for line in told]
    if len(losses) > 1:
        caption = f"Mean over the {run.unit} since the point before; no interval of it is recorded."
        chart = line_chart(f"{run.name}: loss", [("loss", _thinned(losses))], x_name=axis, y_name="Training loss")
        charts.append((chart, caption))
    return charts


def _split(run: TrainedRun, name: str) -> str:
    """The split that a curve is of: what selects may be test."""
    selects = run.config is not None and run.config.select_on == "test"
    return "test, which selects" if name == "val" and selects else name


def _share(line: dict[str, float], name: str, unit: str) -> Point:
    accuracy, half = 100 * line[f"{name}_accuracy"], 100 * line[f"{name}_ci95"]
    words = f"{name} {accuracy:.1f} ± {half:.1f} % after {line['at']:,.0f} {unit}"
    return Point(line["at"], accuracy, accuracy - half, accuracy + half, words)


def _thinned(points: list[Point]) -> list[Point]:
    step = -(-len(points) // MOST_POINTS)
    kept = points[::step]
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]


def shots_and_ways(scores: Sequence[Score]) -> list[tuple[LineChart, str]]:
    """Charts, each with its caption, of heads that were scored with several shots, or several ways, all else equal."""
    groups: dict[tuple[Any, ...], list[Score]] = {}
    for score in scores:
        r = score.record
        where = (score.cubes, r["split"], r["store"], r["adapter"], r["precision"], r["query_mode"], r["episodes_from"])
        groups.setdefault(where, []).append(score)
    charts = []
    for (cubes, split, *_), some in groups.items():
        for axis, fixed in (("shot", "way"), ("way", "shot")):
            for value in sorted({score.record[fixed] for score in some}):
                of_value = [score for score in some if score.record[fixed] == value]
                charts += _against(of_value, axis, f"{value}-{fixed}, {split} of {cubes}")
    return charts


def _against(scores: Sequence[Score], axis: str, title: str) -> list[tuple[LineChart, str]]:
    """Charts of the heads that were scored at two values of the axis or more."""
    heads: dict[str, dict[int, Score]] = {}
    for score in scores:
        # Of several runs of a head at one place the first stands here; the tables have all.
        heads.setdefault(score.head, {}).setdefault(score.record[axis], score)
    lines = [(name, dict(sorted(at.items()))) for name, at in heads.items() if len(at) > 1]
    charts = []
    for start in range(0, len(lines), COLOURS):
        some = lines[start : start + COLOURS]
        series = [(name, [_scored(name, x, score) for x, score in at.items()]) for name, at in some]
        marks = sorted({x for _, at in some for x in at})
        chart = line_chart(title, series, x_name=f"{axis}s", y_name="Accuracy in %", x_ticks=marks, bars=True)
        counts = sorted({score.record["episodes"] for _, at in some for score in at.values()})
        n = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        falls = "; chance falls with the ways" if axis == "way" else ""
        charts.append((chart, f"Bars: 95 % intervals clustered by class and video; n = {n} episodes a point{falls}."))
    return charts


def _scored(name: str, x: int, score: Score) -> Point:
    low, high = (100 * end for end in score.interval)
    words = f"{100 * score.accuracy:.1f} [{low:.1f}, {high:.1f}] %, n = {score.record['episodes']:,} episodes"
    return Point(x, 100 * score.accuracy, low, high, f"{name}: {words}")
