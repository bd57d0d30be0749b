"""The paper's tables, with our numbers in the cells of the published ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..records import ResultRecord
from .found_records import Found, Refused, check_answers
from .paper_cubes import misfit
from .paper_stamps import stamps_of
from .published import NOTE, TABLES, Column, PublishedRow, fits

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

    @property
    def stamps(self) -> list[str]:
        """What must not be overlooked of ours."""
        return [] if self.ours is None else stamps_of(self.ours.record, any_variant=self.row.variant is None)


@dataclass(frozen=True)
class FilledTable:
    """cells: a list a row; read: all records that were looked at; refused: files that are none, or that are not to be
    believed; unlike: of how many records that fit a cell the cubes do not, by reason."""

    number: int
    cells: list[list[Cell]]
    read: Sequence[Found]
    refused: list[Refused]
    unlike: dict[str, int]

    @property
    def filled(self) -> list[Cell]:
        """Those with a number of ours."""
        return [cell for line in self.cells for cell in line if cell.ours is not None]


def fill_table(number: int, records: Sequence[Found], refused: Sequence[Refused] = ()) -> FilledTable:
    """The paper's table with records in its cells. A record whose score does not follow from its predictions joins
    the refused files, and the next one takes its place."""
    found, left, unlike = TABLES[number], list(refused), Counter[str]()
    fair = [one for one in records if _is_fair(one.record)]
    cells = []
    for row in found.rows:
        line = []
        for column, value in zip(found.columns, row.values, strict=True):
            fitting = [one for one in fair if fits(vars(one.record), row, column)]
            reasons = [misfit(vars(one.record)) for one in fitting]
            unlike.update(reason for reason in reasons if reason is not None)
            like = [one for one, reason in zip(fitting, reasons, strict=True) if reason is None]
            line.append(_cell(row, column, value, like, left))
        cells.append(line)
    return FilledTable(number, cells, records, left, dict(unlike))


def _cell(
    row: PublishedRow, column: Column, published: float | None, fitting: Sequence[Found], refused: list[Refused]
) -> Cell:
    """The cell with the first of the fitting records that can be believed; those before it are added to `refused`."""
    waiting = sorted(fitting, key=_preference)
    while waiting:
        first, *waiting = waiting
        reason = check_answers(first)
        if reason is None:
            return Cell(row, column, published, first, len(waiting))
        refused.append(reason)
    return Cell(row, column, published, None, 0)


def _is_fair(record: ResultRecord) -> bool:
    """Whether training saw no scored class, and was on the store that was scored."""
    return not record.seen_classes and (record.trained_on or {}).get("store", record.store) == record.store


def _preference(found: Found) -> tuple[Any, ...]:
    record = found.record
    odd = (record.adapter, record.precision != "fp32", record.preset not in (None, "code"))
    return (*odd, _SELECTED[record.selected_on], -record.episodes, record.seed or 0, str(found.path))


def paper_summary(filled: FilledTable) -> dict[str, Any]:
    """The table as plain JSON values; shares, not percent."""
    return {
        "table": filled.number,
        "title": TABLES[filled.number].title,
        "note": NOTE,
        "read": len(filled.read),
        "cells": [_cell_json(cell) for line in filled.cells for cell in line],
        "unlike": filled.unlike,
        "refused": [{"path": str(one.path), "reason": one.reason} for one in filled.refused],
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
        "note": cell.row.note,
        "ours": record and record.accuracy,
        "ci95": record and record.ci95,
        "ci95_clustered": record and record.ci95_clustered,
        "difference": None if cell.difference is None else cell.difference / 100,
        "stamps": cell.stamps,
        "record": str(cell.ours.path) if cell.ours else None,
        "other_records": cell.others,
    }
