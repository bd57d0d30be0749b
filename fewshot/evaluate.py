"""Evaluation: one head on one list of episodes gives one result record and its predictions."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..cache import console
from ..cache.console import Progress
from ..cache.store import Store
from .cubes.bank import FeatureBank
from .cubes.banks import Banks, bank_dtype
from .environment import resolve_device, versions
from .episodes.list_settings import ListSettings, choose_listing
from .episodes.listing import Listing
from .episodes.sources import RANDOM
from .head import Head, find_head
from .records import Predictions, write_result
from .scoring import score_heads
from .statistics.calibration import expected_calibration_error
from .statistics.metrics import clustered_ci95, episode_accuracy, mean_and_ci95, per_class_accuracy
from .statistics.pretraining import pretraining_of
from .statistics.seen_classes import require_unseen


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
    allow_partial: bool = False,
    allow_seen_classes: bool = False,
    bank: str | None = None,
    precision: str = "fp32",
    device: str = "cpu",
    out: Path | None = None,
    progress: bool = True,
    **episodes: Unpack[ListSettings],
) -> Evaluation:
    """Score a run (its folder, or one of its weights files) on episodes of a split, and write the record.

    Without a run, `method` and `method_keywords` name a head without parameters to train (MASTAF's variant
    `neighbor`). episodes: which ones, see `ListSettings`. The store may be another than the run's, of the same recipe,
    unless the split has classes that the run was trained on, or the backbone fine-tuned on; allow_seen_classes: score
    them all the same, and say so. bank: where cubes stay; precision: of relation maps, `fp32` or, for sweeps, `bf16`.
    The record goes to `results/` in `out`, else in the run's folder. Raises FewShotError, SpecMismatchError.
    """
    chosen = resolve_device(device)
    asked = {"way": episodes.get("way") or 5, "shot": episodes.get("shot") or 1}
    head = find_head(store, run, method, method_keywords or {}, **asked, device=chosen)
    if progress and (note := head.method.note()):
        console.say(note)
    banks = Banks(store, device=chosen, allow_partial=allow_partial, bank=bank, say=progress)
    scoring = {"split": split, "allow_seen_classes": allow_seen_classes, "precision": precision, "progress": progress}
    return _evaluate([head], banks, out, **scoring, **episodes)[0]


def evaluate_together(
    banks: Banks,
    runs: Sequence[Path],
    *,
    split: str = "test",
    allow_seen_classes: bool = False,
    precision: str = "fp32",
    progress: bool = True,
    **episodes: Unpack[ListSettings],
) -> list[Evaluation]:
    """Score several runs on one list as `evaluate_fully` would each; they share cubes and relation maps.

    The list is that of the first run, so all should be trained for the same way, shot and queries.
    """
    heads = [find_head(banks.store, run, None, {}, way=5, shot=1, device=banks.device) for run in runs]
    scoring = {"split": split, "allow_seen_classes": allow_seen_classes, "precision": precision, "progress": progress}
    return _evaluate(heads, banks, None, **scoring, **episodes)


def _evaluate(
    heads: Sequence[Head],
    banks: Banks,
    out: Path | None,
    *,
    split: str,
    allow_seen_classes: bool,
    precision: str,
    progress: bool,
    **episodes: Unpack[ListSettings],
) -> list[Evaluation]:
    """Score heads on the list of the first one, and write a record of each."""
    start, videos = time.monotonic(), banks.open(split, dtype=bank_dtype(precision))
    stamps = [
        {"precision": precision, "seen_classes": require_unseen(head, videos, allow=allow_seen_classes)}
        for head in heads
    ]
    listing = choose_listing(videos, heads[0], **episodes)
    banks.announce(videos)
    shown = Progress(len(listing.rows), f"score {split}", "episodes") if progress else None
    with shown or nullcontext() as bar:
        logits = score_heads(
            [head.method for head in heads],
            videos,
            listing.rows,
            seed=listing.list_seed or 0,
            train_class_ids=heads[0].train_class_ids,
            advance=bar.advance if bar is not None else None,
        )
    return [
        write_evaluation(Path(out or head.folder) / "results", head, videos, listing, found, stamps=stamp, start=start)
        for head, found, stamp in zip(heads, logits, stamps, strict=True)
    ]


def write_evaluation(
    folder: Path,
    head: Head,
    bank: FeatureBank,
    listing: Listing,
    logits: np.ndarray,
    *,
    stamps: Mapping[str, Any],
    start: float,
) -> Evaluation:
    """Write record and predictions of logits float32 [e, q, way].

    stamps: the record's precision and seen_classes; start: of the evaluation, by time.monotonic().
    """
    rows, (e, q, way) = listing.rows, logits.shape
    predictions = predictions_of(bank, listing, logits)
    correct = predictions.correct.reshape(e, q)  # [e, q]
    accuracy, half = mean_and_ci95(episode_accuracy(correct))
    of_class = predictions.query_class.reshape(e, q)  # [e, q]
    name = _name(bank, listing, way) + ("" if stamps["precision"] == "fp32" else "_bf16") + head.suffix
    record = write_result(
        folder / name,
        predictions,
        **head.facts,
        way=way,
        shot=rows.support.shape[2],
        **{f: getattr(listing, f) for f in ("query_mode", "queries", "episodes_from", "source_shared", "list_seed")},
        episodes=e,
        split=bank.split,
        accuracy=accuracy,
        ci95=half,
        ci95_clustered=list(clustered_ci95(correct, rows.query, of_class)),
        ece=expected_calibration_error(predictions.logits, predictions.label),
        recipe=bank.store.spec.recipe,
        store=bank.store.digest,
        episode_list=listing.digest,
        coverage=bank.coverage,
        pretraining=pretraining_of(bank.store, bank.split, predictions),
        **stamps,
        versions=versions(),
        seconds=round(time.monotonic() - start, 3),
    )
    per_class = per_class_accuracy(correct, of_class, bank.class_names)
    return Evaluation(record.to_json(), folder / f"{name}.json", predictions, per_class)


def predictions_of(bank: FeatureBank, listing: Listing, logits: np.ndarray) -> Predictions:
    """The answers of logits float32 [e, q, way]."""
    rows, (e, q, way) = listing.rows, logits.shape
    return Predictions(
        episode=np.repeat(np.arange(e), q),  # [e * q]
        query_row=bank.rows[rows.query].ravel(),  # [e * q]
        label=rows.labels.ravel(),  # [e * q]
        predicted=logits.argmax(axis=2).ravel(),  # [e * q]
        logits=logits.reshape(e * q, way),  # [e * q, way]
        classes=np.repeat(rows.classes, q, axis=0),  # [e * q, way]
        class_names=tuple(bank.class_names),
    )


def _name(bank: FeatureBank, listing: Listing, way: int) -> str:
    """The name of a record: which list, and its digest."""
    e, shot = len(listing.rows), listing.rows.support.shape[2]
    kind = "" if listing.episodes_from == RANDOM else f"_{listing.episodes_from}"
    return f"{bank.split}_{way}way_{shot}shot_{listing.query_mode}{listing.queries}{kind}_{e}_{listing.digest[:8]}"
