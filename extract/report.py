"""What `mastaf-extract` says on the terminal."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..cache import console
from ..cache.index import VideoIndex
from ..cache.place import StorePath
from ..cache.text import shown
from .datasets.coverage import coverage_lines
from .datasets.scan import STRAY
from .datasets.videos import VideoSet

if TYPE_CHECKING:
    from ..cache.label_overlap import LabelOverlap
    from .summary import ExtractSummary

SHOWN_FAILURES = 10
USUAL_WAYS = 5  # the default of --way in stage two


def say_what_was_found(videos: VideoSet) -> None:
    """Coverage of each split, and what the user should know of the data set."""
    for line in coverage_lines(videos.split_scheme, videos.coverage):
        console.say(line)
    for note in videos.notes:
        console.say(note)
    if videos.ignored.get(STRAY):
        console.say(f"ignored {STRAY}: {videos.ignored[STRAY]}")


def say_overlap(overlap: "LabelOverlap", facts: Mapping[str, Any]) -> None:
    """Which test classes the weights know by name. facts: of the backbone's weights."""
    for line in overlap.lines(facts):
        console.say(line)


def say_what_was_done(summary: "ExtractSummary", out: StorePath) -> None:
    """Counts, where the time went, and the failures."""
    seconds = summary.seconds
    console.say(
        f"done: {summary.done} videos extracted, {summary.skipped} were there, {summary.failed} failed, "
        f"{summary.missing} missing; {seconds['total']:.1f} s"
        + (f", {summary.videos_per_second:.1f} videos/s" if summary.videos_per_second else "")
    )
    if summary.done:
        console.say(
            f"bound by {summary.bound}: waited {seconds['wait']:.1f} s for decoders ({seconds['decode']:.1f} s of "
            f"decoding in {summary.decoders} threads), forward {seconds['forward']:.1f} s, {seconds['write_wait']:.1f} "
            f"s for the writer ({seconds['write']:.1f} s of writing)"
        )
    for failure in summary.failures[:SHOWN_FAILURES]:
        console.say(f"failed: {shown(failure['key'])}: {shown(failure['reason'])}")
    if summary.failed > SHOWN_FAILURES:
        console.say(f"... and {summary.failed - SHOWN_FAILURES} more: mastaf-cache info {out}")
    if summary.stopped_at:
        console.say(f"stopped at {shown(summary.stopped_at)} (--on-failure stop); what was done before it is kept")
    elif summary.failed:
        console.say(
            "once the files are mended in place, the same command does those alone; "
            "mastaf-extract --retry-failed tries all of them"
        )


def say_what_is_next(summary: "ExtractSummary", out: StorePath, index: VideoIndex) -> None:
    """What to type now: the rest of an extraction that `--limit` cut short, or stage two."""
    if summary.stopped_at:
        console.say("mend it and run the same command again, or pass --on-failure skip")
    elif summary.missing:
        console.say("the same command without --limit does the missing ones")
    elif summary.done or summary.skipped:
        console.say(f"next: {_stage_two(out, index)}")


def _stage_two(out: StorePath, index: VideoIndex) -> str:
    if "train" in index.splits:
        scored, head = "train", f"mastaf-fewshot train --features {shlex.quote(str(out))}"
    else:
        # Nothing to train on: the head without parameters tells how far the cubes alone go.
        scored = "test" if "test" in index.splits else "val"
        head = f"mastaf-fewshot evaluate --features {shlex.quote(str(out))} --variant neighbor"
        head += "" if scored == "test" else f" --split {scored}"
    classes = len(index.classes_of(scored))
    return head if classes >= USUAL_WAYS else f"{head} --way {classes}"
