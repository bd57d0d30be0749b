"""The table of a comparison as CSV and as JSON."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.atomic import write_bytes, write_json
from .comparison import ComparedPair, ComparedRow, Comparison
from .table import features_of, title_of


def write_tables(out: Path, compared: Comparison) -> None:
    """Write OUT.csv (rows), OUT_pairs.csv and OUT.json (both), each whole or not at all."""
    summary = summary_of(compared)
    write_csv(out.parent / f"{out.name}.csv", [row_line(compared, row) for row in compared.rows])
    write_csv(out.parent / f"{out.name}_pairs.csv", [pair_line(pair) for pair in compared.pairs])
    write_json(out.parent / f"{out.name}.json", summary)


def summary_of(compared: Comparison) -> dict[str, Any]:
    """What the JSON file holds."""
    return {
        "title": title_of(compared.rows),
        "features": features_of(compared.rows),
        "rows": [row_json(compared, row) for row in compared.rows],
        "pairs": [
            {"first": pair.first, "second": pair.second, "shot": pair.shot, **pair.difference.to_json()}
            for pair in compared.pairs
        ],
    }


def row_json(compared: Comparison, row: ComparedRow) -> dict[str, Any]:
    """A row with its records, as plain JSON values."""
    difference = compared.minus_base(row)
    return {
        "row": row.name,
        "accuracy": row.accuracy,
        "ci95": row.ci95,
        "ci95_clustered": list(row.ci95_clustered),
        "between_seeds": row.spread.to_json() if row.spread else None,
        f"difference_to_{compared.base}": difference.to_json() if difference else None,
        "paths": [str(path) for path in row.paths],
        "records": row.records,
    }


def row_line(compared: Comparison, row: ComparedRow) -> dict[str, Any]:
    """A row as a line of CSV."""
    record, difference, spread = row.record, compared.minus_base(row), row.spread
    kept = ("method", "variant", "preset", "way", "shot", "split", "episodes")
    return {
        "row": row.name,
        **{name: record[name] for name in kept},
        "accuracy": row.accuracy,
        "ci95": row.ci95,
        "ci95_clustered_low": row.ci95_clustered[0],
        "ci95_clustered_high": row.ci95_clustered[1],
        "seeds_sd": spread.sd if spread else "",
        "ece": float(np.mean([found["ece"] for found in row.records])),
        f"minus_{compared.base}": difference.mean if difference else "",
        "within_noise": difference.within_noise if difference else "",
        "features": "frozen+adapter" if record["adapter"] else "frozen",
        "precision": record["precision"],
        "train_precision": record["train_precision"] or "",
        "selected_on": record["selected_on"],
        "seeds": " ".join(str(found["seed"]) for found in row.records),
        "records": " ".join(str(path) for path in row.paths),
    }


def pair_line(pair: ComparedPair) -> dict[str, Any]:
    """A pair as a line of CSV."""
    found = pair.difference
    return {
        "first": pair.first,
        "second": pair.second,
        "shot": pair.shot,
        "difference": found.mean,
        "ci95": found.ci95,
        "ci95_clustered_low": found.ci95_clustered[0],
        "ci95_clustered_high": found.ci95_clustered[1],
        "only_first": " ".join(map(str, found.only_first)),
        "only_second": " ".join(map(str, found.only_second)),
        "p_mcnemar": found.p,
        "p_holm": found.p_holm,
        "seeds_sd": found.spread.sd if found.spread else "",
        "within_noise": found.within_noise,
    }


def write_csv(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Write lines that have the fields of the first, whole or not at all."""
    stream = io.StringIO()
    if lines:
        writer = csv.DictWriter(stream, lines[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    write_bytes(path, stream.getvalue().encode())
