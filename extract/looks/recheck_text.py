"""`mastaf-extract --recheck` in words."""

from collections.abc import Iterator

from ...cache.text import shown
from ..report import SHOWN_FAILURES
from .recheck import LEAST_COSINE, Recheck

# What each of these can change, most likely first.
_MEANS = {
    "ffmpeg": "decoding and scaling",
    "device": "arithmetic",
    "torch": "arithmetic",
    "mastaf": "the rules of frames and pixels",
    "numpy": "rounding",
}


def recheck_lines(found: Recheck) -> Iterator[str]:
    """The lines to print."""
    compared, off = found.compared, found.off
    yield (
        f"rechecked {found.store}: {len(found.rows)} of {found.done} rows; {sum(r.same_bits for r in compared)} have "
        f"the same bits, {len(found.rows) - len(compared)} could not be made again"
    )
    if compared:
        yield (
            f"largest error {found.max_error:.4g}; cosine: least {found.least_cosine:.6f}, median "
            f"{found.median_cosine:.6f} (at least {LEAST_COSINE} is asked for)"
        )
    for row in off[:SHOWN_FAILURES]:
        why = shown(row.reason) or f"cosine {row.cosine:.6f}, largest error {row.max_error:.4g}"
        yield f"off: {shown(row.key)} (row {row.row}): {why}"
    if len(off) > SHOWN_FAILURES:
        yield f"... and {len(off) - SHOWN_FAILURES} more; --json FILE has them all"
    if not all(row.same_bits for row in compared):
        yield from _causes(found)


def _causes(found: Recheck) -> Iterator[str]:
    changed = {name: found.changed[name] for name in _MEANS if name in found.changed}
    for name, (then, now) in changed.items():
        yield f"likely cause: {name} was {shown(then)}, and is {shown(now)} ({_MEANS[name]})"
    if not changed:
        yield (
            "neither device nor versions changed since the store was made: were videos replaced, or is this another "
            "model of processor?"
        )
