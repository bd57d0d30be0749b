"""`mastaf-extract --plan` in words."""

from collections.abc import Iterator

from ...cache.text import shown
from ..report import SHOWN_FAILURES
from .plan import Plan

_MB, _GB = 1e6, 1e9


def plan_lines(plan: Plan) -> Iterator[str]:
    """The lines to print."""
    sample = plan.sample
    if sample is None:
        yield "nothing is missing"
    else:
        rate = plan.to_do / max(plan.seconds, 1e-9)
        yield (
            f"to do: {plan.to_do} videos, about {_time(plan.seconds)} at {rate:.1f} videos/s on {plan.device}, "
            f"bound by {plan.bound}"
            + (f"; one of {plan.devices} devices was measured, alone" if plan.devices > 1 else "")
        )
        stages, counted = sample.stages, sample.videos - sample.started[0]
        yield (
            f"measured on {sample.videos} videos in {sample.seconds:.1f} s; the last {counted} of them: waited "
            f"{stages['wait']:.1f} s for {sample.decoders} decoders ({stages['decode']:.1f} s of decoding), forward "
            f"{stages['forward']:.1f} s, {stages['write_wait']:.1f} s for the writer ({stages['write']:.1f} s of "
            "writing)"
        )
    yield (
        f"memory: at most {plan.memory / _MB:.0f} MB of clips and shards beside the network and its activations; "
        f"this sample's peak, all in all: {plan.peak / _MB:.0f} MB"
    )
    for store in plan.stores:
        yield (
            f"store {store.out}: {store.done} done, {store.failed} failed, {store.to_do} to do; "
            f"{(store.cubes_bytes + store.beside_bytes) / _GB:.3f} GB when finished ({store.cubes_bytes} bytes of "
            f"cubes), {store.to_come / _GB:.3f} GB to come"
            + ("" if store.free is None else f", {store.free / _GB:.1f} GB free")
        )
    if sample is not None:
        yield from _failures(sample.failures, sample.videos)
    if plan.lack:
        yield f"the run would not start: {plan.lack}"


def _failures(failures: dict[str, str], videos: int) -> Iterator[str]:
    yield f"failures in the sample: {len(failures)} of {videos}"
    for key, reason in list(failures.items())[:SHOWN_FAILURES]:
        yield f"failed: {shown(key)}: {shown(reason)}"
    if len(failures) > SHOWN_FAILURES:
        yield f"... and {len(failures) - SHOWN_FAILURES} more; --json FILE has them all"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
