"""A comparison of methods for the terminal, which is Markdown too."""

from collections.abc import Sequence

from ...cache.console import table
from ..compare import Block, Cost
from .comparison import ComparedRow
from .pretraining import pretraining_lines
from .score_text import coverage_words
from .table import interval, percent, points, small_p, stamped, title_of

_COSTS = ("trained parameters", "episodes/s", "MFLOP a query")


def compare_text(blocks: Sequence[Block]) -> str:
    """Everything: a block a store, each with a table a shot."""
    parts = [text for block in blocks for text in _block(block)]
    return "\n\n".join([*parts, *_other_lists(blocks)])


def _block(block: Block) -> list[str]:
    spec, compared = block.store.spec, block.compared
    shape = " x ".join(map(str, spec.cube_shape))
    parts = [
        f"{block.name}: data set {block.store.header.dataset}, cubes of {shape} by {spec.backbone}",
        title_of(compared.rows),
        *coverage_words(compared.rows[0].record),
    ]
    for shot in dict.fromkeys(row.shot for row in compared.rows):
        parts.append(_table(block, [row for row in compared.rows if row.shot == shot]))
    reasons: dict[tuple[str, str], list[str]] = {}
    for found in compared.not_run:
        reasons.setdefault((found.name, found.reason), []).append(f"{found.shot}-shot")
    parts += [f"{name} ({', '.join(shots)}) not run: {reason}" for (name, reason), shots in reasons.items()]
    if compared.pairs:
        parts.append(
            f"minus {compared.base}: in points, on the same episodes, with its interval clustered by class and video; "
            f"McNemar's p after Holm's correction over {len(compared.pairs)} comparisons. episodes/s: of scoring, on "
            "this machine, as it went. MFLOP: products alone, of one query and the supports of its episode. within "
            "noise: the interval holds 0, or p is not below 0.05"
            + (", or the interval of the difference over seeds holds 0." if len(compared.rows[0].scored) > 1 else ".")
        )
    # The first line alone: accuracies are each row's own, and in its record.
    parts += pretraining_lines(compared.rows[0].record)[:1]
    notes: dict[str, list[str]] = {}
    for row in compared.rows:
        published = block.cost(row).published
        if published and row.name not in (of := notes.setdefault(published.note, [])):
            of.append(row.name)
    parts += [f"* {', '.join(of)}: {note}; not a number to be reached with these cubes." for note, of in notes.items()]
    return parts


def _table(block: Block, rows: Sequence[ComparedRow]) -> str:
    """One shot's rows; those that could not be had below them."""
    compared, shot = block.compared, rows[0].shot
    paper = any(block.cost(row).published for row in rows)
    headings = [f"{shot}-shot", "accuracy", "clustered", f"minus {compared.base}", "Holm's p", "", *_COSTS]
    headings += ["paper*"] if paper else []
    lines = [[*_cells(block, row), *([_paper(block.cost(row))] if paper else [])] for row in rows]
    absent = [found.name for found in compared.not_run if found.shot == shot]
    lines += [[name, "not run", *[""] * (len(headings) - 2)] for name in absent]
    return table(lines, headings)


def _cells(block: Block, row: ComparedRow) -> list[str]:
    difference, cost, spread = block.compared.minus_base(row), block.cost(row), row.spread
    against = ["", "", ""]
    if difference is not None:
        against = [points(difference), small_p(difference.p_holm), "within noise" if difference.within_noise else ""]
    seeds = f", sd {100 * spread.sd:.2f} between seeds" if spread and cost.parameters else ""
    return [
        stamped(row.name, row),
        percent(row.accuracy, row.ci95) + seeds,
        interval(*row.ci95_clustered),
        *against,
        f"{cost.parameters:,}" if cost.parameters else "none",
        f"{cost.episodes_per_s:,.0f}" if cost.episodes_per_s >= 10 else f"{cost.episodes_per_s:.2g}",
        f"{cost.flops / 1e6:,.3g}" if cost.flops < 1e9 else f"{cost.flops / 1e6:,.0f}",
    ]


def _paper(cost: Cost) -> str:
    found = cost.published
    return f"{found.value} (Table {found.table}, {found.row})" if found else ""


def _other_lists(blocks: Sequence[Block]) -> list[str]:
    """A line for blocks that could not be scored on one list."""
    lists = {tuple(dict.fromkeys(row.record["episode_list"] for row in block.compared.rows)) for block in blocks}
    if len(lists) < 2:
        return []
    return ["The stores hold other videos, so their episodes differ: compare rows of one block alone."]
