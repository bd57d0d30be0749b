"""What `mastaf-extract` does instead of extracting: `--plan` and `--recheck`, from arguments to lines and facts."""

from collections.abc import Sequence
from typing import Any

from ...cache import console
from ...cache.place import StorePath
from ..backbones.base import Backbone
from ..datasets.videos import VideoSet
from ..errors import ExtractError
from ..given import LAYOUT
from .plan import plan_layers
from .plan_text import plan_lines
from .recheck import recheck_store
from .recheck_text import recheck_lines


def plan(
    videos: VideoSet, networks: Sequence[Backbone], *, outs: Sequence[StorePath], **options: Any
) -> dict[str, Any]:
    """Print the plan of an extraction with these options. STOPPED, as the run itself, where a disk is too small."""
    console.say("measuring a sample, for a minute at most")
    found = plan_layers(videos, networks, outs=outs, **options)
    for line in plan_lines(found):
        console.say(line)
    return found.to_json() | {"exit_status": console.STOPPED if found.lack else console.DONE}


def recheck(
    videos: VideoSet,
    networks: Sequence[Backbone],
    *,
    outs: Sequence[StorePath],
    count: int,
    seed: int,
    limit: int | None,
    retry_failed: bool,
    on_failure: str,
    **options: Any,
) -> dict[str, Any]:
    """Compare `count` rows of each store with what they would be now, and print what was found."""
    if limit is not None or retry_failed or on_failure != "skip":
        raise ExtractError("--recheck looks at done rows alone; leave out --limit, --retry-failed and --on-failure")
    for name in LAYOUT:
        del options[name]  # a store has its own
    stores, off = [], False
    for out, network in zip(outs, networks, strict=True):
        found = recheck_store(videos, network, out=out, count=count, seed=seed, **options)
        for line in recheck_lines(found):
            console.say(line)
        stores.append(found.to_json())
        off = off or found.off
    return {"stores": stores, "exit_status": console.FINISHED_WITH_FAILURES if off else console.DONE}
