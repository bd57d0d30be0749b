"""What `mastaf-extract` says on the terminal."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ..cache import console
from .coverage import coverage_lines
from .videos import VideoSet

if TYPE_CHECKING:
    from .summary import ExtractSummary

SHOWN_FAILURES = 10


def say_what_was_found(videos: VideoSet) -> None:
    """Coverage of each split, and what the user should know of the data set."""
    for line in coverage_lines(videos.split_scheme, videos.coverage):
        console.say(line)
    for note in videos.notes:
        console.say(note)
    if videos.ignored.get("stray files"):
        console.say(f"ignored {videos.ignored['stray files']} stray files")


def say_what_was_done(summary: "ExtractSummary", out: Path, videos: VideoSet, *, limited: bool) -> None:
    """Counts, where the time went, the failures, and what to do next. limited: by --limit."""
    seconds = summary.seconds
    console.say(
        f"done: {summary.done} videos extracted, {summary.skipped} were there, {summary.failed} failed, "
        f"{summary.missing} missing; {seconds['total']:.1f} s, {summary.videos_per_second:.1f} videos/s"
    )
    if summary.done:
        console.say(
            f"bound by {summary.bound}: waited {seconds['wait']:.1f} s for decoders ({seconds['decode']:.1f} s of "
            f"decoding), forward {seconds['forward']:.1f} s, write {seconds['write']:.1f} s"
        )
    for failure in summary.failures[:SHOWN_FAILURES]:
        console.say(f"failed: {failure['key']}: {failure['reason']}")
    if summary.failed > SHOWN_FAILURES:
        console.say(f"... and {summary.failed - SHOWN_FAILURES} more: mastaf-cache info {out}")
    if summary.failed:
        console.say("once the files are mended, the same command with --retry-failed does those alone")
    if summary.missing and limited:
        console.say("the same command without --limit does the missing ones")
    if summary.done or summary.skipped:
        console.say(f"next: {_next_command(out, videos)}")


def _next_command(out: Path, videos: VideoSet) -> str:
    store, splits = shlex.quote(str(out)), videos.index.splits
    if "train" in splits:
        return f"mastaf-fewshot train --features {store}"
    # Nothing to train on: the head without parameters tells how far the cubes alone go.
    split = "" if "test" in splits else " --split val"
    return f"mastaf-fewshot evaluate --features {store} --variant neighbor{split}"
