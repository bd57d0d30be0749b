"""Ablations: rows that differ in one thing, trained on the same episodes and tested on the same episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ..cache.console import say, unknown_name
from ..cache.store import Store
from .ablation_rows import ROW_SETS
from .comparison import ComparedRow, Comparison, compare_rows, compared_row
from .errors import FewShotError
from .evaluate import evaluate_fully
from .plan import TrainSettings
from .seed_spread import check_seeds
from .table_files import write_tables
from .train import train


def ablate(store: Store, **settings: Any) -> list[dict[str, Any]]:
    """The result records alone of `ablate_fully`, whose keyword arguments it takes."""
    return [record for row in ablate_fully(store, **settings).rows for record in row.records]


def ablate_fully(
    store: Store,
    *,
    rows: str = "fusion",
    shots: Sequence[int] = (1,),
    split: str = "test",
    episodes: int | None = None,
    list_seed: int = 0,
    seeds: int = 1,
    out: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
    **settings: Unpack[TrainSettings],
) -> Comparison:
    """Train and score every row of a set for every shot; write `ablation_<rows>_<split>` (csv, json) into `out`.

    settings: of `train`, the same for all rows (same training episodes, same seed); `method_keywords` go to every
    row; seeds: so many trainings of each row, with `seed`, seed + 1, ... Each run lies in its own folder of `out`
    (default `runs/ablate_STORE`) and is reused when it is there. All runs of a shot answer the same episodes, so
    each pair of rows is compared. Selected on val, unless val is the split that is scored: then nothing is selected.
    Raises FewShotError.
    """
    if rows not in ROW_SETS:
        raise FewShotError(unknown_name("set of rows", rows, ROW_SETS))
    given = settings.pop("method_keywords", None) or {}
    _refuse_fixed(rows, given, settings)
    if split == "val" and (settings.get("val_episodes") or settings.get("patience")):
        raise FewShotError("with --split val nothing is selected; leave --val-episodes and --patience out")
    folder = Path(out or Path("runs") / f"ablate_{store.path.stem}")
    first = settings.get("seed", 0)
    check_seeds(first, seeds)
    scoring = {"split": split, "episodes": episodes, "list_seed": list_seed, "device": device, "progress": progress}
    table: list[ComparedRow] = []
    for shot in shots:
        for name, keywords in ROW_SETS[rows].items():
            scored = []
            for seed in range(first, first + seeds):
                if progress:
                    say(f"{name}, {shot}-shot, seed {seed}:")
                trained: TrainSettings = {**settings, "shot": shot, "seed": seed, "select": split != "val"}
                run = folder / _run_folder(name, {**given, **trained})
                trained["method_keywords"] = {**given, **keywords}
                train(store, out=run, device=device, progress=progress, **trained)
                partial = settings.get("allow_partial", False)
                scored.append(evaluate_fully(store, run, allow_partial=partial, **scoring))
            table.append(compared_row(name, scored))
    compared = compare_rows(table)
    write_tables(folder / f"ablation_{rows}_{split}", compared)
    return compared


def _refuse_fixed(rows: str, given: Mapping[str, Any], settings: TrainSettings) -> None:
    """Raise FewShotError for a setting in which the rows differ, or that the table fixes."""
    differing = {keyword for keywords in ROW_SETS[rows].values() for keyword in keywords}
    fixed = [name for name in ("shot", "method", "select") if name in settings] + sorted(differing & set(given))
    if fixed:
        words = ", ".join("--lambda" if name == "global_weight" else name for name in fixed)
        raise FewShotError(f"the rows of an ablation ({rows}) decide {words} themselves; leave it out")


def _run_folder(name: str, settings: dict[str, Any]) -> str:
    """The folder of a row's run: settings that are often varied give it another one."""
    words = [settings["preset"]] if settings.get("preset") else []
    words += ["adapter"] if settings.get("adapter") else []
    words += [f"{settings.get('way', 5)}way", f"{settings['shot']}shot", f"seed{settings.get('seed', 0)}"]
    return "_".join([name, *words, *([] if settings["select"] else ["unselected"])])
