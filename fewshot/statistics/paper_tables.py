"""The layout of the paper's tables, with our numbers beside the published ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.checks import brief
from ...cache.console import table
from ..records import ResultRecord
from .found_records import Found, Refused
from .published import NOTE, TABLES, Column, PublishedRow
from .table import percent

# The better a record can be set beside a published number, the earlier; the accuracy has no say.
_SELECTED = {"val": 0, "none": 1, "test": 2}


@dataclass(frozen=True)
class Cell:
    """One number of a table. ours: the record that stands for us, None where nothing was run; others: how many more
    there are."""

    row: PublishedRow
    column: Column
    published: float | None
    ours: Found | None
    others: int

    @property
    def difference(self) -> float | None:
        """Ours minus the published one in points."""
        if self.ours is None or self.published is None:
            return None
        return 100 * self.ours.record.accuracy - self.published


def fill_table(number: int, records: Sequence[Found]) -> list[list[Cell]]:
    """The cells of the paper's table, a list a row."""
    found = TABLES[number]
    cells = []
    for row in found.rows:
        line = []
        for column, value in zip(found.columns, row.values, strict=True):
            fitting = sorted((one for one in records if _fits(one.record, row, column)), key=_preference)
            line.append(Cell(row, column, value, fitting[0] if fitting else None, max(0, len(fitting) - 1)))
        cells.append(line)
    return cells


def _fits(record: ResultRecord, row: PublishedRow, column: Column) -> bool:
    """Whether a record is of this row and column: the same head on the same kind of cubes, on unseen test classes."""
    head = (record.method, record.backbone) == (row.method, row.backbone) and row.variant in (None, record.variant)
    test = (record.split, record.way, record.episodes_from) == ("test", 5, "random") and not record.seen_classes
    same = (record.dataset, record.shot) == (column.dataset, column.shot)
    return head and test and same and (record.trained_on or {}).get("store", record.store) == record.store


def _preference(found: Found) -> tuple[Any, ...]:
    record = found.record
    odd = (record.adapter, record.precision != "fp32", record.preset not in (None, "code"))
    return (*odd, _SELECTED[record.selected_on], -record.episodes, record.seed or 0, str(found.path))


def paper_text(number: int, cells: Sequence[Sequence[Cell]], refused: Sequence[Refused], runs: Path) -> str:
    """The table as Markdown, and everything that a reader must know of it."""
    found = TABLES[number]
    headings = ["Method", "Embedding"]
    for column in found.columns:
        headings += [f"{column.label} {column.shot}-shot", "ours", "difference"]
    lines = [
        [line[0].row.label, line[0].row.group, *(text for cell in line for text in _texts(cell))] for line in cells
    ]
    filled = [cell for line in cells for cell in line if cell.ours is not None]
    parts = [
        f"Table {number} of the paper: {found.title}",
        table(lines, headings),
        f"Accuracy in %. Beside each {NOTE}; ours with its 95 % interval over episodes, and the difference in points, "
        f"from {len(filled)} of the records in {runs}.",
    ]
    others = sum(cell.others for cell in filled)
    if others:
        parts.append(
            f"{others} more records fit these cells; shown are those that are frozen, fp32 and preset code first, "
            "selected on val, of most episodes and the least seed, whatever their accuracy."
        )
    parts += [
        f"{row.label} was published with {row.network}; ours reads cubes of {row.backbone}."
        for row in found.rows
        if row.network and any(cell.row is row for cell in filled)
    ]
    parts += [f"left out: {one.reason}" for one in refused]
    return "\n\n".join(parts)


def _texts(cell: Cell) -> tuple[str, str, str]:
    published = "" if cell.published is None else f"{cell.published:.1f}"
    if cell.ours is None:
        return published, "", ""
    record = cell.ours.record
    ours = percent(record.accuracy, record.ci95) + "".join(f" ({stamp})" for stamp in _stamps(cell))
    return published, ours, "" if cell.difference is None else f"{cell.difference:+.1f}"


def _stamps(cell: Cell) -> list[str]:
    """What must not be overlooked of a record."""
    if cell.ours is None:
        return []
    record = cell.ours.record
    stamps = ["selected on test"] if record.selected_on == "test" else []
    stamps += ["adapter"] if record.adapter else []
    stamps += ["bf16"] if record.precision != "fp32" else []
    stamps += [f"preset {_word(record.preset)}"] if record.preset not in (None, "code") else []
    odd = cell.row.variant is None and record.variant not in (None, "plain")
    return stamps + ([_word(str(record.variant))] if odd else [])


def _word(text: str) -> str:
    """A word of a record in a table, which it must not break."""
    return brief(text, 20).replace("|", "/")


def paper_summary(number: int, cells: Sequence[Sequence[Cell]], refused: Sequence[Refused]) -> dict[str, Any]:
    """The table as plain JSON values; shares, not percent."""
    return {
        "table": number,
        "title": TABLES[number].title,
        "note": NOTE,
        "cells": [_cell_json(cell) for line in cells for cell in line],
        "refused": [{"path": str(one.path), "reason": one.reason} for one in refused],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    record = cell.ours.record if cell.ours else None
    return {
        "row": cell.row.label,
        "embedding": cell.row.group,
        "dataset": cell.column.label,
        "shot": cell.column.shot,
        "published": None if cell.published is None else round(cell.published / 100, 4),
        "published_with": cell.row.network or None,
        "ours": record and record.accuracy,
        "ci95": record and record.ci95,
        "ci95_clustered": record and record.ci95_clustered,
        "difference": None if cell.difference is None else cell.difference / 100,
        "stamps": _stamps(cell),
        "record": str(cell.ours.path) if cell.ours else None,
        "other_records": cell.others,
    }
