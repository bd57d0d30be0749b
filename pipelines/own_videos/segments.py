"""From the windows of a long video to its segments: neighbours with one label become one, with its times.

windows   |-----rock-----|          each stands for its middle, up to halfway to its neighbours;
               |-----rock-----|     the first one from its start, the last one to its end
                    |----chase-----|
segments  |----rock----------|-chase---|
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...extract.decoding.decode_ahead import reason_in_one_line
from ...extract.decoding.windows import Windows
from ...extract.errors import VideoError
from .answer import Answer, Scored


@dataclass(frozen=True, eq=False)
class ScoredWindow:
    """start_s, end_s: in seconds; scored: what the head says of it."""

    start_s: float
    end_s: float
    scored: Scored

    @property
    def label(self) -> int:
        """The way of its class, -1 where it is rejected."""
        return -1 if self.scored.rejected else int(self.scored.logits.argmax())


def segments_of(
    path: Path, windows: Windows, score: Callable[[np.ndarray], Scored], classes: tuple[str, ...]
) -> Iterator[Answer]:
    """The segments of a video; behind them an answer with an error where it could not be read to its end.

    score: of a clip uint8 [frames, size, size, 3]. Nothing comes from a video that is shorter than a window.
    """
    failed: list[str] = []

    def scores() -> Iterator[ScoredWindow]:
        try:
            for window in windows:
                yield ScoredWindow(window.start_s, window.end_s, score(window.pixels))
        except VideoError as error:
            failed.append(reason_in_one_line(error))

    for answer in merge(scores(), path, classes):
        yield replace(answer, note=windows.note)  # which is there with the last one
    for reason in failed:
        yield Answer(path=str(path), error=reason)


def merge(windows: Iterable[ScoredWindow], path: Path, classes: tuple[str, ...]) -> Iterator[Answer]:
    """The segments, in order, each when the next begins; scores and probabilities are the means of its windows'."""
    group: list[ScoredWindow] = []
    start_s = 0.0
    for window in windows:
        if group and group[-1].label != window.label:
            border = (group[-1].end_s + window.start_s) / 2
            yield _answer(group, path, classes, start_s, border)
            group, start_s = [], border
        elif not group:
            start_s = window.start_s
        group.append(window)
    if group:
        yield _answer(group, path, classes, start_s, group[-1].end_s)


def _answer(group: list[ScoredWindow], path: Path, classes: tuple[str, ...], start_s: float, end_s: float) -> Answer:
    several = [window.scored for window in group]
    logits = np.mean([one.logits for one in several], axis=0)  # [way]
    found = [one.probabilities for one in several if one.probabilities is not None]
    probabilities = np.mean(found, axis=0) if found else None  # [way]
    mean = Scored(logits, probabilities, several[0].threshold)
    return mean.answer(path, classes, start_s=round(start_s, 3), end_s=round(end_s, 3))
