"""Ablations: rows that differ in one thing, trained on the same episodes and tested on the same episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from ..cache.console import say, unknown_name
from ..cache.store import Store
from .ablation_rows import FULL, ROW_SETS
from .errors import FewShotError
from .evaluate import Evaluation, evaluate_fully
from .paired import paired_difference
from .plan import TrainSettings
from .table import AblationRow, write_tables
from .train import train


def ablate(store: Store, **settings: Any) -> list[dict[str, Any]]:
    """The result records alone of `ablate_fully`, whose keyword arguments it takes."""
    return [row.record for row in ablate_fully(store, **settings)]


def ablate_fully(
    store: Store,
    *,
    rows: str = "fusion",
    shots: Sequence[int] = (1,),
    split: str = "test",
    episodes: int | None = None,
    list_seed: int = 0,
    out: Path | None = None,
    device: str = "cpu",
    progress: bool = True,
    **settings: Unpack[TrainSettings],
) -> list[AblationRow]:
    """Train and score every row of a set for every shot; write `ablation_<rows>_<split>.csv` and `.json` into `out`.

    settings: of `train`, the same for all rows (same training episodes, same seed); `method_keywords` go to every
    row. Each run lies in its own folder of `out` (default `runs/ablate_STORE`) and is reused when it is there. All
    rows of a shot answer the same episodes, so each is also compared with `full` pair by pair. Selected on val,
    unless val is the split that is scored: then nothing is selected. Raises FewShotError.
    """
    if rows not in ROW_SETS:
        raise FewShotError(unknown_name("set of rows", rows, ROW_SETS))
    given = settings.pop("method_keywords", None) or {}
    _refuse_fixed(rows, given, settings)
    if split == "val" and (settings.get("val_episodes") or settings.get("patience")):
        raise FewShotError("with --split val nothing is selected; leave --val-episodes and --patience out")
    folder = Path(out or Path("runs") / f"ablate_{store.path.stem}")
    table: list[AblationRow] = []
    for shot in shots:
        scored: dict[str, Evaluation] = {}
        for name, keywords in ROW_SETS[rows].items():
            if progress:
                say(f"{name}, {shot}-shot:")
            trained: TrainSettings = {**settings, "shot": shot, "select": split != "val"}
            run = folder / _run_folder(name, {**given, **trained})
            trained["method_keywords"] = {**given, **keywords}
            train(store, out=run, device=device, progress=progress, **trained)
            scored[name] = evaluate_fully(
                store,
                run,
                split=split,
                episodes=episodes,
                list_seed=list_seed,
                allow_partial=settings.get("allow_partial", False),
                device=device,
                progress=progress,
            )
        table += _compared(scored)
    write_tables(folder / f"ablation_{rows}_{split}", table)
    return table


def _refuse_fixed(rows: str, given: Mapping[str, Any], settings: TrainSettings) -> None:
    """Raise FewShotError for a setting in which the rows differ, or that the table fixes."""
    differing = {keyword for keywords in ROW_SETS[rows].values() for keyword in keywords}
    fixed = [name for name in ("shot", "method", "select") if name in settings] + sorted(differing & set(given))
    if fixed:
        words = ", ".join("--lambda" if name == "global_weight" else name for name in fixed)
        raise FewShotError(f"the rows of an ablation ({rows}) decide {words} themselves; leave it out")


def _compared(scored: dict[str, Evaluation]) -> list[AblationRow]:
    full = scored[FULL].predictions
    return [
        AblationRow(
            name,
            found.record,
            found.path,
            None if name == FULL else paired_difference(found.predictions, full),
        )
        for name, found in scored.items()
    ]


def _run_folder(name: str, settings: dict[str, Any]) -> str:
    """The folder of a row's run: settings that are often varied give it another one."""
    words = [settings["preset"]] if settings.get("preset") else []
    words += ["adapter"] if settings.get("adapter") else []
    words += [f"{settings.get('way', 5)}way", f"{settings['shot']}shot", f"seed{settings.get('seed', 0)}"]
    return "_".join([name, *words, *([] if settings["select"] else ["unselected"])])
