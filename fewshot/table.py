"""The table of an ablation, for the terminal, as CSV and as JSON."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.atomic import write_bytes, write_json
from ..cache.console import table
from .errors import FewShotError
from .paired import Difference


@dataclass(frozen=True)
class AblationRow:
    """One cell of the table. difference: of this row minus `full` on the same episodes, None for `full` itself."""

    name: str
    record: dict[str, Any]
    path: Path
    difference: Difference | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        difference = self.difference.to_json() if self.difference else None
        return {"row": self.name, "difference_to_full": difference, "path": str(self.path), "record": self.record}


def features_of(rows: Sequence[AblationRow]) -> str:
    """The one kind of features of all rows: `frozen` or `frozen+adapter`. Raises FewShotError on a mixture."""
    kinds = {"frozen+adapter" if row.record["adapter"] else "frozen" for row in rows}
    if len(kinds) != 1:
        raise FewShotError(f"one table must not mix kinds of features ({', '.join(sorted(kinds))}); make one of each")
    return kinds.pop()


def title_of(rows: Sequence[AblationRow]) -> str:
    """What all rows share, in one line."""
    first = rows[0].record
    places = {row.record["selected_on"] for row in rows}
    # A row whose scores nothing can train has nothing to select.
    selected = "val (where anything was trained)" if len(places) > 1 else places.pop()
    return (
        f"{first['way']}-way accuracy in % on {first['split']}, {first['episodes']} episodes, 95 % intervals; "
        f"features: {features_of(rows)}; selected on: {selected}; chance {100 / first['way']:.1f}"
    )


def text_table(rows: Sequence[AblationRow]) -> str:
    """Title and table: a line per row name; per shot the accuracy and the difference to full."""
    names = list(dict.fromkeys(row.name for row in rows))
    shots = list(dict.fromkeys(row.record["shot"] for row in rows))
    cell = {(row.name, row.record["shot"]): row for row in rows}
    heading = [text for shot in shots for text in (f"{shot}-shot", "clustered", "minus full")]
    lines = [[name, *(text for shot in shots for text in _cells(cell[name, shot]))] for name in names]
    return f"{title_of(rows)}\n\n{table(lines, ['row', *heading])}"


def write_tables(out: Path, rows: Sequence[AblationRow]) -> None:
    """Write OUT.csv and OUT.json, each whole or not at all."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _csv_line(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_line(row) for row in rows)
    write_bytes(out.parent / f"{out.name}.csv", stream.getvalue().encode())
    write_json(out.parent / f"{out.name}.json", summary_of(rows))


def summary_of(rows: Sequence[AblationRow]) -> dict[str, Any]:
    """What the JSON file holds."""
    return {"title": title_of(rows), "features": features_of(rows), "rows": [row.to_json() for row in rows]}


def percent(accuracy: float, half: float) -> str:
    """`62.3 +- 0.9`."""
    return f"{100 * accuracy:.1f} +- {100 * half:.1f}"


def interval(low: float, high: float) -> str:
    """`[58.1, 66.2]`."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _cells(row: AblationRow) -> tuple[str, str, str]:
    record, difference = row.record, row.difference
    compared = ""
    if difference is not None:
        noise = " within noise" if difference.within_noise else ""
        compared = f"{100 * difference.mean:+.2f} +- {100 * difference.ci95:.2f}{noise}"
    return percent(record["accuracy"], record["ci95"]), interval(*record["ci95_clustered"]), compared


def _csv_line(row: AblationRow) -> dict[str, Any]:
    record, difference = row.record, row.difference
    low, high = record["ci95_clustered"]
    kept = ("method", "variant", "preset", "way", "shot", "split", "episodes", "accuracy", "ci95")
    return {
        "row": row.name,
        **{name: record[name] for name in kept},
        "ci95_clustered_low": low,
        "ci95_clustered_high": high,
        "minus_full": difference.mean if difference else "",
        "minus_full_ci95": difference.ci95 if difference else "",
        "within_noise": difference.within_noise if difference else "",
        "features": "frozen+adapter" if record["adapter"] else "frozen",
        "selected_on": record["selected_on"],
        "seed": record["seed"],
        "record": str(row.path),
    }
