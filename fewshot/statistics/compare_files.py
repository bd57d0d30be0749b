"""A comparison of methods as CSV, JSON, Markdown and a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cache.atomic import write_bytes, write_json
from ..compare import Block
from .compare_plot import plot_blocks
from .compare_text import compare_text
from .comparison import ComparedRow
from .published import NOTE
from .table import title_of
from .table_files import pair_line, row_json, row_line, write_csv


def write_comparison(out: Path, blocks: Sequence[Block]) -> list[Path]:
    """Write OUT.csv (rows), OUT_pairs.csv, OUT.json, OUT.md, and OUT.png where matplotlib is. Returns their paths."""
    out.parent.mkdir(parents=True, exist_ok=True)
    rows, pairs, summary, text = (out.parent / f"{out.name}{end}" for end in (".csv", "_pairs.csv", ".json", ".md"))
    write_csv(rows, [line for block in blocks for line in _lines(block)])
    write_csv(pairs, [{"store": block.name, **pair_line(pair)} for block in blocks for pair in block.compared.pairs])
    write_json(summary, compare_summary(blocks))
    write_bytes(text, (compare_text(blocks) + "\n").encode())
    plot = plot_blocks(blocks, out.parent / f"{out.name}.png")
    return [rows, pairs, summary, text, *([plot] if plot else [])]


def compare_summary(blocks: Sequence[Block]) -> dict[str, Any]:
    """What the JSON file holds."""
    return {"published": NOTE, "blocks": [_block_json(block) for block in blocks]}


def _block_json(block: Block) -> dict[str, Any]:
    compared, store = block.compared, block.store
    return {
        "store": block.name,
        "path": str(store.path),
        "dataset": store.header.dataset,
        "backbone": store.spec.backbone,
        "cube": list(store.spec.cube_shape),
        "title": title_of(compared.rows),
        "rows": [{"shot": row.shot, **row_json(compared, row), **_costs(block, row)} for row in compared.rows],
        "pairs": [pair_line(pair) for pair in compared.pairs],
        "not_run": [{"row": f.name, "shot": f.shot, "reason": f.reason, "failed": f.failed} for f in compared.not_run],
    }


def _lines(block: Block) -> list[dict[str, Any]]:
    """Lines of CSV: the rows, then those that could not be had."""
    named = {"store": block.name, "dataset": block.store.header.dataset, "backbone": block.store.spec.backbone}
    compared = block.compared
    lines = [
        {**named, **row_line(compared, row), "difference_to": compared.base, **_costs(block, row), "not_run": ""}
        for row in compared.rows
    ]
    # One table may have blocks with other references.
    lines = [{("minus" if k == f"minus_{compared.base}" else k): v for k, v in line.items()} for line in lines]
    absent = [{"row": f.name, "shot": f.shot, "not_run": f.reason} for f in compared.not_run]
    return [*lines, *({**dict.fromkeys(lines[0], ""), **named, **line} for line in absent)]


def _costs(block: Block, row: ComparedRow) -> dict[str, Any]:
    cost = block.cost(row)
    found = cost.published
    return {
        "trained_parameters": cost.parameters,
        "episodes_per_s": cost.episodes_per_s,
        "flops_per_query": cost.flops,
        "published": found.value / 100 if found else "",
        "published_in": f"Table {found.table}, {found.row}" if found else "",
        "published_note": found.note if found else "",
    }
