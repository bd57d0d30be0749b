"""How many threads drive decoders unless told."""

import os


def default_workers() -> int:
    """One a core that this process may use."""
    return len(os.sched_getaffinity(0))
