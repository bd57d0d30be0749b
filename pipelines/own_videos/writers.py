"""Answers as they are shown and kept: words for people, lines of JSON, lines of CSV."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from ...cache import console
from .answer import FIELDS, Answer
from .writable import require_writable

Write = Callable[[Answer], None]
TERMINAL = Path("-")


@contextmanager
def open_writers(jsonl: Path | None, table: Path | None, *, append: bool) -> Iterator[Write]:
    """A function that writes an answer everywhere, each a whole line at once.

    jsonl, table: files, which are begun anew unless `append`; `-` is the terminal, which then gets no words.
    """
    with ExitStack() as held:
        writers: list[Write] = []
        if TERMINAL not in (jsonl, table):
            writers.append(lambda answer: console.say(words(answer)))
        if jsonl is not None:
            writers.append(_json_lines(_open(held, jsonl, append=append)))
        if table is not None:
            writers.append(_csv_lines(_open(held, table, append=append)))

        def write(answer: Answer) -> None:
            for one in writers:
                one(answer)

        yield write


def _open(held: ExitStack, path: Path, *, append: bool) -> IO[str]:
    if path == TERMINAL:
        return sys.stdout
    require_writable(path)
    # Names that are not UTF-8 are shown with `?`; csv ends its lines itself.
    return held.enter_context(path.open("a" if append else "w", encoding="utf-8", errors="replace", newline=""))


def _json_lines(stream: IO[str]) -> Write:
    def write(answer: Answer) -> None:
        print(json.dumps(answer.to_json(), ensure_ascii=False), file=stream, flush=True)

    return write


def _csv_lines(stream: IO[str]) -> Write:
    lines = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    if stream is sys.stdout or not stream.tell():
        lines.writeheader()

    def write(answer: Answer) -> None:
        lines.writerow(answer.to_json())
        stream.flush()

    return write


def words(answer: Answer) -> str:
    """The answer as one line."""
    where = answer.path
    if answer.start_s is not None and answer.end_s is not None:
        where += f" {clock(answer.start_s)} - {clock(answer.end_s)}"
    if answer.error:
        return f"failed: {where}: {answer.error}"
    note = f" [{answer.note}]" if answer.note else ""
    if answer.probability is None or answer.runner_up_probability is None:
        score, next_ = f"{answer.score:.2f}", f"{answer.runner_up_score:.2f}"
        return f"{where}: {answer.label}, score {score} (then {answer.runner_up}, {next_}){note}"
    sure, next_ = f"{100 * answer.probability:.0f} %", f"{100 * answer.runner_up_probability:.0f} %"
    if answer.rejected:
        return f"{where}: none of the classes (score {answer.score:.2f}; nearest: {answer.nearest} {sure}){note}"
    return f"{where}: {answer.label} {sure} (then {answer.runner_up} {next_}){note}"


def clock(seconds: float) -> str:
    """`1:02:03.4`."""
    tenths = round(seconds * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02d}:{tenths // 10 % 60:02d}.{tenths % 10}"
