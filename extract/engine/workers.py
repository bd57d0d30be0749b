"""How many threads drive decoders unless told."""

import os


def default_workers() -> int:
    """One a core that this process may use."""
    return len(os.sched_getaffinity(0))


def most_decoders(sharing: int = 1) -> int:
    """Decoders that a run chooses at most, where `sharing` processes share the cores: half again as many as cores,
    because a decoder also waits, for its process to start and for its file."""
    cores = max(default_workers() // sharing, 1)
    return cores + (cores + 1) // 2
