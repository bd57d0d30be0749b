"""Ablations: rows that differ in one thing, trained on the same episodes and tested on the same episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ..cache.console import unknown_name
from ..cache.store import Store
from .ablation_rows import ROW_SETS
from .episodes.list_settings import ListSettings, check_list, lists_by_shot
from .errors import FewShotError
from .evaluate import evaluate_together
from .seeds import check_seeds
from .statistics.comparison import ComparedRow, Comparison, compare_rows, compared_row
from .statistics.seen_classes import require_unseen
from .statistics.table_files import write_tables
from .train import Order, open_banks, train_together
from .training.plan import TrainSettings


def ablate(store: Store, **settings: Any) -> list[dict[str, Any]]:
    """The result records alone of `ablate_fully`, whose keyword arguments it takes."""
    return [record for row in ablate_fully(store, **settings).rows for record in row.records]


def ablate_fully(
    store: Store,
    *,
    rows: str = "fusion",
    shots: Sequence[int] | None = None,
    split: str = "test",
    episodes: int | None = None,
    list_seed: int | None = None,
    episodes_from: str | None = None,
    episode_lists: Sequence[Path] = (),
    seeds: int = 1,
    precision: str = "fp32",
    allow_seen_classes: bool = False,
    out: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
    **settings: Unpack[TrainSettings],
) -> Comparison:
    """Train and score every row of a set for every shot; write `ablation_<rows>_<split>` (csv, json) into `out`.

    settings: of `train`, the same for all rows (same training episodes, same seed); `method_keywords` go to every
    row; seeds: so many trainings of each row, with `seed`, seed + 1, ... shots: (1,); episode_lists: score those of
    these files, one a shot, which fix way, shots and everything else of the test episodes; precision: of relation
    maps in the test; allow_seen_classes: score classes that the backbone was fine-tuned on, and say so. Each run lies
    in its own folder of `out` (default `runs/ablate_STORE`) and is reused when it is there. All runs of a shot answer
    the same episodes, so each pair of rows is compared; they are trained and scored side by side. Selected on val
    unless told otherwise; where val is the split that is scored, nothing is selected. Raises FewShotError.
    """
    if rows not in ROW_SETS:
        raise FewShotError(unknown_name("set of rows", rows, ROW_SETS))
    given = settings.pop("method_keywords", None) or {}
    _refuse_fixed(rows, given, settings, split)
    first = settings.get("seed", 0)
    check_seeds(first, seeds)
    asked: ListSettings = {"episodes": episodes, "list_seed": list_seed, "episodes_from": episodes_from}
    lists = lists_by_shot(shots, episode_lists, asked, way=settings.get("way"))
    folder = Path(out or Path("runs") / f"ablate_{store.path.stem}")
    banks = open_banks(store, settings, device=device, say=progress)
    require_unseen(None, banks.open(split), allow=allow_seen_classes)  # before the training
    for shot, (way, wanted) in lists.items():
        check_list(banks.open(split), wanted, way=way, shot=shot, **_queries(settings))
    table: list[ComparedRow] = []
    for shot, (way, wanted) in lists.items():
        trained: TrainSettings = {**settings, "way": way, "shot": shot}
        trained["select_on"] = "none" if split == "val" else settings.get("select_on", "val")
        orders = _orders(folder, rows, given, trained, range(first, first + seeds))
        runs = [summary.out for summary in train_together(banks, orders, progress=progress)]
        how = {"split": split, "precision": precision, "allow_seen_classes": allow_seen_classes, "progress": progress}
        scored = evaluate_together(banks, runs, **how, **wanted)
        for number, name in enumerate(ROW_SETS[rows]):
            table.append(compared_row(name, scored[number * seeds : (number + 1) * seeds]))
    compared = compare_rows(table)
    write_tables(folder / f"ablation_{rows}_{split}", compared)
    return compared


def _queries(settings: TrainSettings) -> dict[str, Any]:
    """Query mode and queries of the rows' episodes."""
    return {"query_mode": settings.get("query_mode") or "single", "queries": settings.get("queries") or 1}


def _orders(
    folder: Path, rows: str, given: Mapping[str, Any], trained: TrainSettings, seeds: Sequence[int]
) -> list[Order]:
    """The runs of one shot: for each row one a seed."""
    orders = []
    for name, keywords in ROW_SETS[rows].items():
        for seed in seeds:
            settings: TrainSettings = {**trained, "seed": seed}
            run = folder / _run_folder(name, {**given, **settings})
            settings["method_keywords"] = {**given, **keywords}
            orders.append(Order(settings, run))
    return orders


def _refuse_fixed(rows: str, given: Mapping[str, Any], settings: TrainSettings, split: str) -> None:
    """Raise FewShotError for a setting in which the rows differ, or that the table fixes."""
    selecting = [name for name in ("val_episodes", "val_list", "patience", "select_on") if settings.get(name)]
    if split == "val" and selecting:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in selecting)
        raise FewShotError(f"with --split val nothing is selected; leave {names} out")
    differing = {keyword for keywords in ROW_SETS[rows].values() for keyword in keywords}
    fixed = [name for name in ("shot", "method") if name in settings] + sorted(differing & set(given))
    if fixed:
        words = ", ".join("--lambda" if name == "global_weight" else name for name in fixed)
        raise FewShotError(f"the rows of an ablation ({rows}) decide {words} themselves; leave it out")


def _run_folder(name: str, settings: dict[str, Any]) -> str:
    """The folder of a row's run: settings that are often varied give it another one."""
    words = [settings["preset"]] if settings.get("preset") else []
    words += ["adapter"] if settings.get("adapter") else []
    words += [f"{settings.get('way', 5)}way", f"{settings['shot']}shot", f"seed{settings.get('seed', 0)}"]
    words += {"none": ["unselected"], "test": ["selected-on-test"]}.get(settings["select_on"], [])
    return "_".join([name, *words])
