"""Evaluation: one head on one list of episodes gives one result record and its predictions."""

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..cache import console
from ..cache.console import Progress
from ..cache.store import Store
from .cubes.bank import FeatureBank
from .cubes.banks import Banks, bank_dtype
from .environment import resolve_device
from .episodes.list_settings import ListSettings, choose_listing
from .episodes.listing import Listing
from .evaluation import Asked, Evaluation, read_evaluation, write_evaluation
from .head import Head, find_head
from .methods.registry import naming_plugin
from .scoring import score_heads
from .statistics.seen_classes import require_unseen


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
    with naming_plugin(head.name, "scoring"):
        return _evaluate([head], banks, out, **scoring, **episodes)[0]


def evaluate_together(
    banks: Banks,
    runs: Sequence[Path],
    *,
    split: str = "test",
    allow_seen_classes: bool = False,
    precision: str = "fp32",
    again: bool = True,
    progress: bool = True,
    **episodes: Unpack[ListSettings],
) -> list[Evaluation]:
    """Score several runs on one list as `evaluate_fully` would each; they share cubes and relation maps.

    The list is that of the first run, so all should be trained for the same way, shot and queries. again: score runs
    anew whose record of these weights and this list is there already.
    """
    heads = [find_head(banks.store, run, None, {}, way=5, shot=1, device=banks.device) for run in runs]
    scoring = {"split": split, "allow_seen_classes": allow_seen_classes, "precision": precision, "progress": progress}
    return _evaluate(heads, banks, None, again=again, **scoring, **episodes)


def _evaluate(
    heads: Sequence[Head],
    banks: Banks,
    out: Path | None,
    *,
    split: str,
    allow_seen_classes: bool,
    precision: str,
    progress: bool,
    again: bool = True,
    **episodes: Unpack[ListSettings],
) -> list[Evaluation]:
    """Score heads on the list of the first one, and write a record of each."""
    start, videos = time.monotonic(), banks.open(split, dtype=bank_dtype(precision))
    stamps = [
        {"precision": precision, "seen_classes": require_unseen(head, videos, allow=allow_seen_classes)}
        for head in heads
    ]
    listing = choose_listing(videos, heads[0], **episodes)
    asked = [
        Asked(head, videos, listing, Path(out or head.folder) / "results", stamp)
        for head, stamp in zip(heads, stamps, strict=True)
    ]
    found = {} if again else {n: kept for n, one in enumerate(asked) if (kept := read_evaluation(one)) is not None}
    rest = [n for n in range(len(asked)) if n not in found]
    if rest:
        banks.announce(videos)
        scores, seconds = _scores([heads[n] for n in rest], videos, listing, progress)
        for n, logits in zip(rest, scores, strict=True):
            found[n] = write_evaluation(asked[n], logits, start=start, scoring_s=seconds / len(rest))
    return [found[n] for n in range(len(asked))]


def _scores(
    heads: Sequence[Head], videos: FeatureBank, listing: Listing, progress: bool
) -> tuple[list[np.ndarray], float]:
    """Logits float32 [e, q, way] of each head, and the seconds that all of them took."""
    start = time.monotonic()
    what = f"score {videos.split}" if len(heads) > 1 else f"score {heads[0].name} on {videos.split}"
    shown = Progress(len(listing.rows), what, "episodes") if progress else None
    with shown or nullcontext() as bar:
        logits = score_heads(
            [head.method for head in heads],
            videos,
            listing.rows,
            seed=listing.list_seed or 0,
            train_class_ids=heads[0].train_class_ids,
            advance=bar.advance if bar is not None else None,
        )
    return logits, time.monotonic() - start
