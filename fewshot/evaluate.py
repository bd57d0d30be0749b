"""Evaluation: one head on one list of episodes gives one result record and its predictions."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..cache.console import Progress
from ..cache.store import Store
from .bank import FeatureBank
from .defaults import TEST_EPISODES
from .environment import resolve_device, versions
from .errors import FewShotError
from .head import Head, head_of_run, head_without_run
from .listing import Listing, draw_listing, read_listing
from .metrics import clustered_ci95, episode_accuracy, mean_and_ci95, per_class_accuracy
from .pretraining import pretraining_of
from .records import Predictions, write_result
from .scoring import score_episodes


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A scored list. record: as on disk; path: of the record; per_class: class -> (accuracy, queries)."""

    record: dict[str, Any]
    path: Path
    predictions: Predictions
    per_class: dict[str, tuple[float, int]]


def evaluate(store: Store, run: Path | None = None, **settings: Any) -> dict[str, Any]:
    """The result record alone of `evaluate_fully`, whose keyword arguments it takes."""
    return evaluate_fully(store, run, **settings).record


def evaluate_fully(
    store: Store,
    run: Path | None = None,
    *,
    method: str | None = None,
    method_keywords: Mapping[str, Any] | None = None,
    split: str = "test",
    episodes: int | None = None,
    list_seed: int | None = None,
    episode_list: Path | None = None,
    way: int | None = None,
    shot: int | None = None,
    query_mode: str | None = None,
    queries: int | None = None,
    allow_partial: bool = False,
    device: str = "cpu",
    out: Path | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score a run (its folder, or one of its weights files) on episodes of a split, and write the record.

    Without a run, `method` and `method_keywords` name a head without parameters to train (MASTAF's variant
    `neighbor`). way, shot and queries are those of the run unless given, without a run 5, 1 and a single query;
    episodes: 10,000 by default, drawn by `list_seed` (0), or those of the file `episode_list`. The record goes to
    `results/` in `out`, else in the run's folder. Raises FewShotError, SpecMismatchError.
    """
    start, chosen = time.monotonic(), resolve_device(device)
    head = _head(store, run, method, method_keywords or {}, way=way or 5, shot=shot or 1, device=chosen)
    bank = FeatureBank(store, split, allow_partial=allow_partial)
    drawn = {"way": way, "shot": shot, "query_mode": query_mode, "queries": queries}
    if episode_list is not None:
        _refuse_given({"episodes": episodes, "list_seed": list_seed, **drawn})
        listing = read_listing(bank, Path(episode_list))
    else:
        listing = draw_listing(
            bank,
            episodes=TEST_EPISODES if episodes is None else episodes,
            list_seed=list_seed or 0,
            **_from_head(head, drawn),
        )
    shown = Progress(len(listing.rows), f"score {split}", "episodes") if progress else None
    with shown or nullcontext() as bar:
        logits = score_episodes(
            head.method,
            bank,
            listing.rows,
            device=chosen,
            seed=listing.list_seed or 0,
            train_class_ids=head.train_class_ids,
            advance=bar.advance if bar is not None else None,
        )
    return _write(Path(out or head.folder) / "results", head, bank, listing, logits, start)


def _head(
    store: Store,
    run: Path | None,
    method: str | None,
    keywords: Mapping[str, Any],
    *,
    way: int,
    shot: int,
    device: torch.device,
) -> Head:
    if run is None:
        return head_without_run(method or "mastaf", keywords, store, way=way, shot=shot, device=device)
    if method or keywords:
        raise FewShotError("a checkpoint fixes the method: give a checkpoint, or a method with its options, not both")
    return head_of_run(Path(run), store, device=device)


def _from_head(head: Head, drawn: dict[str, Any]) -> dict[str, Any]:
    """What was given, else what the head was trained on; another query mode starts from one query."""
    chosen = {name: getattr(head, name) if value is None else value for name, value in drawn.items()}
    if drawn["queries"] is None and chosen["query_mode"] != head.query_mode:
        chosen["queries"] = 1
    return chosen


def _refuse_given(given: dict[str, Any]) -> None:
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if names:
        raise FewShotError(
            f"an episode list fixes {', '.join(names)} already; leave {'them' if names[1:] else 'it'} out"
        )


def _write(
    folder: Path, head: Head, bank: FeatureBank, listing: Listing, logits: np.ndarray, start: float
) -> Evaluation:
    """Write record and predictions of logits float32 [e, q, way]."""
    rows, (e, q, way) = listing.rows, logits.shape
    predictions = Predictions(
        episode=np.repeat(np.arange(e), q),  # [e * q]
        query_row=bank.rows[rows.query].ravel(),  # [e * q]
        label=rows.labels.ravel(),  # [e * q]
        predicted=logits.argmax(axis=2).ravel(),  # [e * q]
        logits=logits.reshape(e * q, way),  # [e * q, way]
        classes=np.repeat(rows.classes, q, axis=0),  # [e * q, way]
        class_names=tuple(bank.class_names),
    )
    correct = predictions.correct.reshape(e, q)  # [e, q]
    accuracy, half = mean_and_ci95(episode_accuracy(correct))
    of_class = predictions.query_class.reshape(e, q)  # [e, q]
    shot = rows.support.shape[2]
    name = (
        f"{bank.split}_{way}way_{shot}shot_{listing.query_mode}{listing.queries}_{e}_{listing.digest[:8]}{head.suffix}"
    )
    record = write_result(
        folder / name,
        predictions,
        **head.facts,
        way=way,
        shot=shot,
        query_mode=listing.query_mode,
        queries=listing.queries,
        episodes=e,
        split=bank.split,
        accuracy=accuracy,
        ci95=half,
        ci95_clustered=list(clustered_ci95(correct, rows.query, of_class)),
        list_seed=listing.list_seed,
        recipe=bank.store.spec.recipe,
        store=bank.store.digest,
        episode_list=listing.digest,
        coverage=bank.coverage,
        pretraining=pretraining_of(bank.store, bank.split, predictions),
        versions=versions(),
        seconds=round(time.monotonic() - start, 3),
    )
    per_class = per_class_accuracy(correct, of_class, bank.class_names)
    return Evaluation(record.to_json(), folder / f"{name}.json", predictions, per_class)
