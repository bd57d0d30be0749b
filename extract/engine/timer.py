"""Where the time of a run goes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# decode: summed over decoders; wait: of the forward passes for clips; forward; write: in its own thread; write_wait: of
# the forward passes for the writer; total: of the run.
STAGES = ("decode", "wait", "forward", "write", "write_wait", "total")
_WAITED = {"decode": "wait", "forward": "forward", "write": "write_wait"}


class Timer:
    """Seconds by stage (see STAGES)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - start

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another process measured."""
        for stage, value in seconds.items():
            self.seconds[stage] += value


def bound_of(seconds: Mapping[str, float]) -> str:
    """The stage that a run waits for most: decode, forward or write."""
    return max(_WAITED, key=lambda stage: seconds[_WAITED[stage]])
