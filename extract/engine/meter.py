"""The live display of a run: videos, rate, time left, what bounds it, failures so far."""

from typing import Any, Self

from ...cache.console import Progress


class Meter:
    """Counts videos on a display, or silently where it is not `shown`."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._bar = Progress(total, "extract", "videos") if shown else None
        self._failed = 0

    def tell(self, tried: int, failed: int, bound: str) -> None:
        """`tried` more videos, of which `failed` failed; bound: the stage that the run waits for most, so far."""
        self._failed += failed
        if self._bar is not None:
            failures = f", {self._failed} failed" if self._failed else ""
            self._bar.advance(tried, note=f"bound by {bound}{failures}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)
