"""The paper's tables in words: Markdown, and what a reader must know beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ...cache.checks import brief
from ...cache.console import table
from ..records import ResultRecord
from .paper_tables import Cell, FilledTable
from .published import NOTE, TABLES
from .table import percent


def paper_text(filled: FilledTable, runs: Path) -> str:
    """The table as Markdown, and everything that a reader must know of it."""
    found = TABLES[filled.number]
    headings = ["Method", "Embedding"]
    for column in found.columns:
        headings += [f"{column.label} {column.shot}-shot", "ours", "difference"]
    lines = [
        [line[0].row.label, line[0].row.group, *(text for cell in line for text in _texts(cell))]
        for line in filled.cells
    ]
    other = {row.label: row.note for row in found.rows if row.note != NOTE}
    parts = [
        f"Table {filled.number} of the paper: {found.title}",
        table(lines, headings),
        f"Accuracy in %. Beside each {NOTE}; ours with its 95 % interval over episodes, and the difference in points, "
        f"from {len(filled.filled)} of the records in {runs}.",
        *(f"{', '.join(n for n in other if other[n] == note)}: {note}." for note in dict.fromkeys(other.values())),
        *_remarks(filled),
    ]
    return "\n\n".join([*parts, *(f"left out: {one.reason}" for one in filled.refused)])


def _remarks(filled: FilledTable) -> Iterator[str]:
    if not filled.filled:
        yield _none_fits([one.record for one in filled.read])
    for reason, count in filled.unlike.items():
        yield f"Not shown: {count} {_records(count)} {reason}."
    if others := sum(cell.others for cell in filled.filled):
        yield (
            f"{others} more {_records(others)} fit these cells; shown are those that are frozen, fp32 and preset code "
            "first, selected on val, of most episodes and the least seed, whatever their accuracy."
        )
    shown = [cell.ours.record.pretraining for cell in filled.filled if cell.ours]
    if unknown := sum(one["overlap"] is None and one["data"] != [] for one in shown):
        yield (
            f"Whether pretraining saw the test classes is not known for {unknown} of {len(shown)} numbers; "
            "see mastaf-extract --labels."
        )
    for row in TABLES[filled.number].rows:
        if row.network and any(cell.row is row for cell in filled.filled):
            yield f"{row.label} was published with {row.network}; ours reads cubes of {row.backbone}."


def _none_fits(records: Sequence[ResultRecord]) -> str:
    if not records:
        return "0 records read."
    names = {
        what: brief(", ".join(sorted({getattr(one, field) for one in records})), 120)
        for what, field in (("data sets", "dataset"), ("backbones", "backbone"))
    }
    kinds = "; ".join(f"{what}: {named}" for what, named in names.items())
    return f"{len(records)} {_records(len(records))} read, none fits ({kinds})."


def _records(count: int) -> str:
    return "record" if count == 1 else "records"


def _texts(cell: Cell) -> tuple[str, str, str]:
    published = "" if cell.published is None else f"{cell.published:.1f}"
    if cell.ours is None:
        return published, "", ""
    record = cell.ours.record
    ours = percent(record.accuracy, record.ci95) + "".join(f" ({stamp})" for stamp in cell.stamps)
    return published, ours, "" if cell.difference is None else f"{cell.difference:+.1f}"
