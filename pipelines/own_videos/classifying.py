"""What `mastaf classify` does: answers to clips, then to what comes into a folder, in words, JSON lines and CSV."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from ...cache import console
from ..errors import PipelineError
from .answer import Answer
from .classifier import FewShotClassifier
from .support import queries_in
from .watching import arrivals
from .writers import open_writers


def classify(
    clips: Sequence[Path],
    classes: Path,
    *,
    window: float | None = None,
    stride: float | None = None,
    watch: Path | None = None,
    every: float = 1.0,
    until_idle: float | None = None,
    jsonl: Path | None = None,
    csv: Path | None = None,
    keep: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Classify clips and what comes into `watch`; say each answer at once. Returns what `--json` holds.

    keep: return the answers, too; settings: of `FewShotClassifier.load`.
    """
    if watch is not None and not watch.is_dir():
        raise PipelineError(f"watch ({watch}) must be a folder; make it first")
    classifier, windows = FewShotClassifier.load(classes, **settings), {"window_s": window, "stride_s": stride}
    answers = classifier.answers(_paths(clips), **windows)
    if watch is not None:
        answers = chain(answers, _watched(arrivals(watch, every_s=every, idle_s=until_idle), classifier, windows))
    # Only now, as this begins files anew: a wrong call must not cost the answers of an earlier one.
    with open_writers(jsonl, csv, append=watch is not None) as write:
        if not classifier.calibrated:
            # Not among the answers, which may be another program's input.
            click.echo("not calibrated: scores are no probabilities, and nothing is rejected", err=True)
        counts = {"answers": 0, "rejected": 0, "failed": 0}
        kept: list[dict[str, Any]] = []
        for answer in answers:
            write(answer)
            counts["answers"] += not answer.error
            counts["rejected"] += answer.rejected
            counts["failed"] += bool(answer.error)
            if keep:
                kept.append(answer.to_json())
    return counts | {"classes": str(classes), "clips": kept}


def _watched(
    batches: Iterable[list[Path]], classifier: FewShotClassifier, windows: dict[str, float | None]
) -> Iterator[Answer]:
    """The answers to what comes, until Ctrl-C."""
    with console.until_interrupted():
        for batch in batches:
            yield from classifier.answers(batch, **windows)


def _paths(clips: Sequence[Path]) -> list[Path]:
    """The videos that are asked about. PipelineError for a folder without any."""
    found = {clip: queries_in(clip) for clip in clips}
    empty = [str(clip) for clip, paths in found.items() if not paths]
    if empty:
        raise PipelineError(f"no videos in {', '.join(empty)}; give a folder that holds some")
    return [path for clip in clips for path in found[clip]]
