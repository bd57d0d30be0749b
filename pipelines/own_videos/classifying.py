"""What `mastaf classify` does: answers to clips, then to what comes into a folder, in words, JSON lines and CSV."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
    with ExitStack() as held:
        write = held.enter_context(open_writers(jsonl, csv, append=watch is not None))
        classifier = FewShotClassifier.load(classes, **settings)
        if not classifier.calibrated:
            # Not among the answers, which may be another program's input.
            click.echo("not calibrated: scores are no probabilities, and nothing is rejected", err=True)
        counts = {"answers": 0, "rejected": 0, "failed": 0}
        kept: list[dict[str, Any]] = []
        for answer in _answers(classifier, clips, window, stride, watch, every, until_idle):
            write(answer)
            counts["answers"] += not answer.error
            counts["rejected"] += answer.rejected
            counts["failed"] += bool(answer.error)
            if keep:
                kept.append(answer.to_json())
    return counts | {"classes": str(classes), "clips": kept}


def _answers(
    classifier: FewShotClassifier,
    clips: Sequence[Path],
    window: float | None,
    stride: float | None,
    watch: Path | None,
    every: float,
    until_idle: float | None,
) -> Iterator[Answer]:
    paths = [path for clip in clips for path in queries_in(clip)]
    empty = [str(clip) for clip in clips if not queries_in(clip)]
    if empty:
        raise PipelineError(f"no videos in {', '.join(empty)}; give a folder that holds some")
    yield from classifier.answers(paths, window_s=window, stride_s=stride)
    if watch is not None:
        with console.until_interrupted():
            for batch in arrivals(watch, every_s=every, idle_s=until_idle):
                yield from classifier.answers(batch, window_s=window, stride_s=stride)
