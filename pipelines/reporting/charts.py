"""Where the marks of a chart go, in the units of its picture; the templates draw them.

Charts are inline SVG without a library: a page needs no script to show them, they stay sharp, their colours follow the
page's own (dark or light), and one takes some 3 kB where a plotting library takes 1 to 4 MB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 8, 34
COLOURS = 8  # those that the style sheet has
_BAR, _NAME = 18, 112  # height of a bar's line, and room for its name
_CELL_MOST, _CELL_LEAST = 34, 11
_MATRIX_NAME = 92
WITH_NUMBERS = 12  # classes of which each cell has room for a number


@dataclass(frozen=True)
class Point:
    """One measured value. low, high: its interval, None where there is none; words: what it is, in full."""

    x: float
    y: float
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True)
class Tick:
    """A mark of an axis. at: where it is; text: what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point of a line as drawn; low, high: ends of its error bar, None without one."""

    x: float
    y: float
    low: float | None
    high: float | None
    words: str


@dataclass(frozen=True)
class Line:
    """A series as drawn. colour: its number; path, band: points of a polyline, and of the polygon around it."""

    name: str
    colour: int
    path: str
    band: str
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class LineChart:
    """lines over two axes; left, right, top, bottom: the box between them."""

    title: str
    x_name: str
    y_name: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def line_chart(
    title: str,
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    x_name: str,
    y_name: str,
    x_ticks: Sequence[float] | None = None,
    bars: bool = False,
) -> LineChart:
    """Series of points by name. x_ticks: where points can be, for few of them; bars: intervals as error bars, set a
    little apart, instead of a band around the line."""
    points = [point for _, found in series for point in found]
    values = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    y_marks = _nice(min(values), max(values))
    xs = [point.x for point in points]
    x_marks = list(x_ticks) if x_ticks is not None else _nice(0, max(xs))
    margin = 0.12 * (x_marks[-1] - x_marks[0]) if bars else 0.0
    x = _scale(x_marks[0] - margin, x_marks[-1] + margin, _LEFT, WIDTH - _RIGHT)
    y = _scale(y_marks[0], y_marks[-1], HEIGHT - _BOTTOM, _TOP)
    lines = []
    for number, (name, found) in enumerate(series):
        aside = 5 * (number - (len(series) - 1) / 2) if bars else 0.0
        dots = tuple(_dot(point, x, y, aside) for point in found)
        lines.append(Line(name, number % COLOURS, _path(dots), "" if bars else _band(dots), dots))
    return LineChart(
        title,
        x_name,
        y_name,
        tuple(lines),
        tuple(Tick(x(mark), _text(mark)) for mark in x_marks),
        tuple(Tick(y(mark), _text(mark)) for mark in y_marks),
    )


def _dot(point: Point, x: "_Scale", y: "_Scale", aside: float) -> Dot:
    low, high = (None if value is None else y(value) for value in (point.low, point.high))
    return Dot(round(x(point.x) + aside, 1), y(point.y), low, high, point.words)


def _path(dots: Sequence[Dot]) -> str:
    return " ".join(f"{dot.x},{dot.y}" for dot in dots)


def _band(dots: Sequence[Dot]) -> str:
    if len(dots) < 2 or any(dot.low is None for dot in dots):
        return ""
    above, below = [f"{dot.x},{dot.high}" for dot in dots], [f"{dot.x},{dot.low}" for dot in reversed(dots)]
    return " ".join([*above, *below])


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def _scale(low: float, high: float, start: float, end: float) -> _Scale:
    return _Scale(low, high if high > low else low + 1, start, end)


def _nice(low: float, high: float) -> list[float]:
    """Round marks around a range, three to seven of them."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def _text(value: float) -> str:
    return f"{value:g}" if abs(value) < 10_000 else f"{value / 1000:g}k"


@dataclass(frozen=True)
class Bar:
    """One bar: its line's middle, its length, the ends of its interval, and words."""

    name: str
    y: float
    length: float
    low: float
    high: float
    words: str


@dataclass(frozen=True)
class BarChart:
    """Shares from 0 to 1 as horizontal bars. start: where they begin; full: length of 1."""

    bars: tuple[Bar, ...]
    height: int
    width: int = WIDTH
    start: int = _NAME
    full: int = WIDTH - _NAME - _RIGHT


def bar_chart(values: Sequence[tuple[str, float, float, float, str]]) -> BarChart:
    """values: name, share, low, high and words of each bar."""
    full = WIDTH - _NAME - _RIGHT
    bars = [
        Bar(name, _BAR * (number + 0.5), round(full * share, 1), round(full * low, 1), round(full * high, 1), words)
        for number, (name, share, low, high, words) in enumerate(values)
    ]
    return BarChart(tuple(bars), _BAR * len(bars) + 4)


@dataclass(frozen=True)
class Cell:
    """A cell of a matrix. depth: 0 to 9, how dark; text: '' where there is no room."""

    x: float
    y: float
    depth: int
    text: str
    words: str


@dataclass(frozen=True)
class Matrix:
    """Squares of `cell` units; names of rows left, of columns above, at `start`."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]
    cell: float
    size: float
    start: int = _MATRIX_NAME


def matrix(names: Sequence[str], share: Sequence[Sequence[float]], words: Sequence[Sequence[str]]) -> Matrix:
    """A square matrix of shares from 0 to 1 (NaN: nothing to see), with the words of each cell."""
    n = len(names)
    cell = max(_CELL_LEAST, min(_CELL_MOST, (WIDTH - _MATRIX_NAME) / n))
    cells = [
        Cell(
            round(_MATRIX_NAME + j * cell, 1),
            round(_MATRIX_NAME + i * cell, 1),
            min(9, int(10 * value)),
            f"{100 * value:.0f}" if n <= WITH_NUMBERS else "",
            words[i][j],
        )
        for i, line in enumerate(share)
        for j, value in enumerate(line)
        if not math.isnan(value)
    ]
    return Matrix(tuple(names), tuple(cells), round(cell, 1), round(_MATRIX_NAME + n * cell + 1, 1))
