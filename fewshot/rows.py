"""Rows of a table: heads that are trained on the same episodes where they can be, and scored on the same list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from ..cache.store import Store
from .checkpoint import build_method
from .episodes.list_settings import ListSettings, check_list, lists_by_shot
from .errors import FailedError, FewShotError
from .row_runs import RowRuns
from .seeds import check_seeds
from .statistics.comparison import ComparedRow, Comparison, NotRun, compare_rows, compared_row
from .statistics.seen_classes import require_unseen
from .train import Order, open_banks
from .training.optimisation import Optimisation, check_optimisation
from .training.plan import TrainSettings

# What only training by episodes has.
_EPISODIC = {"train_episodes", "batch", "val_episodes", "val_every", "val_list", "patience", "query_mode", "queries"}
_EPISODIC |= set(Optimisation.__annotations__)
_SELECTING = ("val_episodes", "val_list", "patience", "select_on")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One head of a table: its name there, the method, and the keywords that make it.

    optional: left out, with the reason, where it cannot be had; else that is an error.
    """

    name: str
    method: str
    keywords: Mapping[str, Any]
    optional: bool = False


class Scored(TypedDict, total=False):
    """Keyword arguments that say on what the rows of a table are scored; left out or None: the value named here.

    shots: (1,); split: `test`; episodes, list_seed, episodes_from: see `ListSettings`; episode_lists: score those of
    these files, one a shot, which fix way, shots and everything else of the test episodes; seeds: 1, so many trainings
    of each row, with `seed`, seed + 1, ...; precision: of relation maps, `fp32`; allow_seen_classes: False, score
    classes that the backbone was fine-tuned on, and say so; device: `cpu`; progress: True.
    """

    shots: Sequence[int] | None
    split: str
    episodes: int | None
    list_seed: int | None
    episodes_from: str | None
    episode_lists: Sequence[Path]
    seeds: int
    precision: str
    allow_seen_classes: bool
    device: str
    progress: bool


def split_settings(settings: Mapping[str, Any]) -> tuple[TrainSettings, Scored]:
    """Keyword arguments as those of training and those of `Scored`. Raises TypeError for one that is neither."""
    asked = {name: value for name, value in settings.items() if name in Scored.__annotations__}
    trained = {name: value for name, value in settings.items() if name not in asked}
    unknown = sorted(set(trained) - set(TrainSettings.__annotations__))
    if unknown:
        raise TypeError(f"unknown keyword arguments: {', '.join(unknown)}")
    return cast(TrainSettings, trained), cast(Scored, asked)


def run_rows(
    store: Store,
    rows: Sequence[Row],
    settings: TrainSettings,
    *,
    folder: Path,
    base: str,
    every_pair: bool = True,
    **asked: Unpack[Scored],
) -> Comparison:
    """Train and score every row for every shot, each run in a folder of its own in `folder`, and compare the rows.

    settings: of training, the same for all rows (same training episodes, same seed). base, every_pair: see
    `compare_rows`. What is there already is used again: finished runs, and scores of the same weights on the same
    list. Raises FewShotError, also where no row can be had.
    """
    split, progress = asked.get("split", "test"), asked.get("progress", True)
    _refuse_selection(settings, split)
    _check_optimisation(settings)
    first, seeds = settings.get("seed", 0), asked.get("seeds", 1)
    check_seeds(first, seeds)
    lists, queries = _lists(settings, asked), _queries(settings)
    banks = open_banks(store, settings, device=asked.get("device", "cpu"), say=progress)
    allow = asked.get("allow_seen_classes", False)
    require_unseen(None, banks.open(split), allow=allow)  # before the training
    for shot, (way, listed) in lists.items():
        check_list(banks.open(split), listed, way=way, shot=shot, **queries)
    table: list[ComparedRow] = []
    left_out: list[NotRun] = []
    for shot, (way, listed) in lists.items():
        select_on = "none" if split == "val" else settings.get("select_on", "val")
        trained: TrainSettings = {**settings, "way": way, "shot": shot, "select_on": select_on}
        orders = {row.name: _orders(store, folder, row, trained, range(first, first + seeds)) for row in rows}
        runs = RowRuns(banks, orders, {row.name for row in rows if row.optional}, progress)
        runs.train()
        drawn = listed if listed.get("episode_list") else {**listed, **queries}
        scored = runs.score(split=split, precision=asked.get("precision", "fp32"), allow_seen_classes=allow, **drawn)
        table += [
            compared_row(row.name, scored[row.name], trained=runs.trained[row.name])
            for row in rows
            if row.name in scored
        ]
        left_out += [
            NotRun(row.name, shot, str(why), failed=isinstance(why, FailedError))
            for row in rows
            if (why := runs.reasons.get(row.name)) is not None
        ]
    if not table:
        raise FewShotError(f"no row can be had; {left_out[0].name}: {left_out[0].reason}")
    return compare_rows(table, base=base, every_pair=every_pair, not_run=left_out)


def _check_optimisation(settings: TrainSettings) -> None:
    """Raise FewShotError for what no row can be trained with, so that it is not the reason of every single one."""
    check_optimisation(cast(Optimisation, {k: v for k, v in settings.items() if k in Optimisation.__annotations__}))


def _lists(settings: TrainSettings, asked: Scored) -> dict[int, tuple[int, ListSettings]]:
    """The list of each shot."""
    drawn = {name: asked.get(name) for name in ("episodes", "list_seed", "episodes_from")}
    files = asked.get("episode_lists") or ()
    return lists_by_shot(asked.get("shots"), files, cast(ListSettings, drawn), way=settings.get("way"))


def _queries(settings: TrainSettings) -> dict[str, Any]:
    """Query mode and queries of the episodes that are scored: those that were asked for, else a single one."""
    return {"query_mode": settings.get("query_mode") or "single", "queries": settings.get("queries") or 1}


def _orders(store: Store, folder: Path, row: Row, trained: TrainSettings, seeds: Sequence[int]) -> list[Order]:
    """The runs of a row at one shot, one a seed."""
    given = trained.get("method_keywords") or {}
    settings: dict[str, Any] = {**trained, "method": row.method, "method_keywords": {**given, **row.keywords}}
    told = {name for name in _EPISODIC if settings.get(name) is not None}
    if told and not _episodic(store, settings):
        settings = {name: value for name, value in settings.items() if name not in told}
    named = {**given, **trained}
    return [
        Order(cast(TrainSettings, {**settings, "seed": seed}), folder / _run_folder(row.name, {**named, "seed": seed}))
        for seed in seeds
    ]


def _episodic(store: Store, settings: Mapping[str, Any]) -> bool:
    """Whether a method is trained by episodes, so that it heeds their settings."""
    try:
        keywords = settings["method_keywords"]
        return build_method(settings["method"], keywords, spec=store.spec, n_train_classes=0).episodic
    except FewShotError:
        return True  # the plan of its run says what is wrong


def _refuse_selection(settings: TrainSettings, split: str) -> None:
    """Raise FewShotError for settings of selection where the split that selects is the one that is scored."""
    selecting = [name for name in _SELECTING if settings.get(name)]
    if split == "val" and selecting:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in selecting)
        raise FewShotError(f"with --split val nothing is selected; leave {names} out")


def _run_folder(name: str, settings: dict[str, Any]) -> str:
    """The folder of a row's run: settings that are often varied give it another one."""
    words = [settings["preset"]] if settings.get("preset") else []
    words += ["adapter"] if settings.get("adapter") else []
    words += [f"{settings.get('way', 5)}way", f"{settings['shot']}shot", f"seed{settings.get('seed', 0)}"]
    words += {"none": ["unselected"], "test": ["selected-on-test"]}.get(settings["select_on"], [])
    return "_".join([name.replace(":", "-"), *words])
