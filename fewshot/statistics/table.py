"""The table of a comparison, for the terminal."""

from collections.abc import Sequence

from ...cache.console import table
from ..errors import FewShotError
from .comparison import ComparedPair, ComparedRow, Comparison
from .paired import Difference


def features_of(rows: Sequence[ComparedRow]) -> str:
    """The one kind of features of all rows: `frozen` or `frozen+adapter`. Raises FewShotError on a mixture."""
    kinds = {"frozen+adapter" if row.record["adapter"] else "frozen" for row in rows}
    if len(kinds) != 1:
        raise FewShotError(f"one table must not mix kinds of features ({', '.join(sorted(kinds))}); make one of each")
    return kinds.pop()


def precision_of(rows: Sequence[ComparedRow]) -> str:
    """The one precision of all rows. Raises FewShotError on a mixture: it moves a head by as much as its idea does."""
    found = {row.record["precision"] for row in rows}
    trained = {row.record["train_precision"] for row in rows} - {None}  # None: of a head without a run
    for kinds, remedy in ((found, "score all rows in one"), (trained, "train all rows in one")):
        if len(kinds) > 1:
            raise FewShotError(f"one table must not mix precisions ({', '.join(sorted(kinds))}); {remedy}")
    return f"{found.pop()}" + (", trained in bf16" if trained == {"bf16"} else "")


def title_of(rows: Sequence[ComparedRow]) -> str:
    """What all rows share, in one line."""
    first = rows[0].record
    places = {row.record["selected_on"] for row in rows}
    # A row whose scores nothing can train has nothing to select.
    chosen = " or ".join(sorted(places - {"none"})) or "none"
    selected = f"{chosen} (where anything was trained)" if len(places) > 1 else chosen
    rounded = "" if precision_of(rows) == "fp32" else f"precision: {precision_of(rows)}; "
    seeds = f"mean of {len(rows[0].scored)} seeds; " if len(rows[0].scored) > 1 else ""
    return (
        f"{first['way']}-way accuracy in % on {first['split']}, {first['episodes']} episodes, 95 % intervals; "
        f"{seeds}{rounded}features: {features_of(rows)}; selected on: {selected}; chance {100 / first['way']:.1f}"
    )


def text_table(compared: Comparison) -> str:
    """Title, a line per row name, and a line per pair of rows."""
    rows = compared.rows
    names = list(dict.fromkeys(row.name for row in rows))
    shots = list(dict.fromkeys(row.shot for row in rows))
    cell = {(row.name, row.shot): row for row in rows}
    seeds = ["between seeds"] if len(rows[0].scored) > 1 else []
    heading = [text for shot in shots for text in (f"{shot}-shot", "clustered", *seeds, f"minus {compared.base}")]
    lines = [
        [stamped(name, cell[name, shots[0]]), *(text for shot in shots for text in _cells(compared, cell[name, shot]))]
        for name in names
    ]
    parts = [title_of(rows), table(lines, ["row", *heading])]
    return "\n\n".join(parts + ([pairs_table(compared.pairs)] if compared.pairs else []))


def pairs_table(pairs: Sequence[ComparedPair]) -> str:
    """A line per pair: the difference in points, its clustered interval, and how sure it is."""
    title = (
        "Pairs on the same episodes: difference in points, clustered 95 % interval, queries that one alone answered "
        f"rightly, McNemar's p and Holm's correction over {len(pairs)} comparisons"
    )
    lines = []
    for pair in pairs:
        found = pair.difference
        alone = "; ".join(f"{a} : {b}" for a, b in zip(found.only_first, found.only_second, strict=True))
        verdict = "within noise" if found.within_noise else ""
        shown = (points(found), small_p(found.p), small_p(found.p_holm), verdict)
        lines.append([f"{pair.first} - {pair.second}", f"{pair.shot}", shown[0], alone, *shown[1:]])
    return f"{title}\n\n{table(lines, ['pair', 'shot', 'difference', 'one alone', 'p', 'Holm', ''])}"


def percent(accuracy: float, half: float) -> str:
    """`62.3 +- 0.9`."""
    return f"{100 * accuracy:.1f} +- {100 * half:.1f}"


def interval(low: float, high: float) -> str:
    """`[58.1, 66.2]`."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def points(difference: Difference) -> str:
    """`+0.02 [-0.06, +0.10]`."""
    low, high = difference.ci95_clustered
    return f"{100 * difference.mean:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def stamped(name: str, row: ComparedRow) -> str:
    """The name of a row, as it stands in a table."""
    # A number whose weights were chosen by it must not travel without saying so.
    return f"{name} (selected on test)" if row.record["selected_on"] == "test" else name


def _cells(compared: Comparison, row: ComparedRow) -> list[str]:
    difference, spread = compared.minus_base(row), row.spread
    # One column for all rows; it stays empty where nothing was trained.
    shown = f"sd {100 * spread.sd:.2f} ({100 * spread.low:.2f} to {100 * spread.high:.2f})" if spread else ""
    seeds = [shown] if len(row.scored) > 1 else []
    minus = ""
    if difference is not None:
        minus = points(difference) + (" within noise" if difference.within_noise else "")
    return [percent(row.accuracy, row.ci95), interval(*row.ci95_clustered), *seeds, minus]


def small_p(p: float) -> str:
    """`0.042`, `3e-08`."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
