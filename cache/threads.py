"""How torch's threads wait for one another."""

import os

SPINS = 3000  # rounds of a waiting loop: microseconds


def spin_briefly() -> None:
    """Let threads that wait go to sleep after microseconds, unless the user's OMP_WAIT_POLICY or GOMP_SPINCOUNT says
    otherwise; before torch is loaded.

    Threads that spin for long take the core that others need, and threads that sleep at once are woken too late:
    docs/benchmarks.md has both.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
