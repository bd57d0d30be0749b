"""Ablations: rows of MASTAF that differ in one thing, trained on the same episodes and tested on the same episodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cache.console import unknown_name
from ..cache.store import Store
from .ablation_rows import FULL, ROW_SETS
from .errors import FewShotError
from .rows import Row, run_rows, split_settings
from .statistics.comparison import Comparison
from .statistics.table_files import write_tables


def ablate(store: Store, **settings: Any) -> list[dict[str, Any]]:
    """The result records alone of `ablate_fully`, whose keyword arguments it takes."""
    return [record for row in ablate_fully(store, **settings).rows for record in row.records]


def ablate_fully(store: Store, *, rows: str = "fusion", out: Path | None = None, **settings: Any) -> Comparison:
    """Train and score every row of a set for every shot; write `ablation_<rows>_<split>` (csv, json) into `out`.

    settings: of `train`, the same for all rows (`method_keywords` go to every row), and those of `Scored`. Each run
    lies in its own folder of `out` (default `runs/ablate_STORE`) and is reused when it is there. All runs of a shot
    answer the same episodes, so each pair of rows is compared; they are trained and scored side by side. Selected on
    val unless told otherwise; where val is the split that is scored, nothing is selected. Raises FewShotError.
    """
    if rows not in ROW_SETS:
        raise FewShotError(unknown_name("set of rows", rows, ROW_SETS))
    trained, asked = split_settings(settings)
    _refuse_fixed(rows, settings)
    folder = Path(out or Path("runs") / f"ablate_{store.path.stem}")
    made = [Row(name=name, method="mastaf", keywords=keywords) for name, keywords in ROW_SETS[rows].items()]
    compared = run_rows(store, made, trained, folder=folder, base=FULL, **asked)
    write_tables(folder / f"ablation_{rows}_{asked.get('split', 'test')}", compared)
    return compared


def _refuse_fixed(rows: str, settings: Mapping[str, Any]) -> None:
    """Raise FewShotError for a setting in which the rows differ, or that the table fixes."""
    given = settings.get("method_keywords") or {}
    differing = {keyword for keywords in ROW_SETS[rows].values() for keyword in keywords}
    fixed = [name for name in ("shot", "method") if name in settings] + sorted(differing & set(given))
    if fixed:
        words = ", ".join("--lambda" if name == "global_weight" else name for name in fixed)
        raise FewShotError(f"the rows of an ablation ({rows}) decide {words} themselves; leave it out")
