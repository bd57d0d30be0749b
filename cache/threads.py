"""How torch's threads wait for one another."""

import os


def sleep_while_waiting() -> None:
    """Let threads that wait sleep, unless the user's OMP_WAIT_POLICY says otherwise; before torch is loaded.

    Threads that wait by spinning take the core that the others need: with other work on the machine, training and
    scoring were four times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
