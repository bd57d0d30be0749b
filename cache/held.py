"""The locks of stores that this process holds: asked again before each file that is written.

A lock can be lost while its holder works: a lease runs out, or `mastaf-cache unlock --force` removes the lock of
another machine that looked dead. The former holder must not write any more, because the store may have a new one.
Processes that work for a holder have no lock of their own; they ask the marks (attempts.py).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoppedError
from .place import StorePath

Lost = Callable[[], str]  # '' while the lock is held, else how it was lost, for the user
_held: dict[StorePath, Lost] = {}


@contextmanager
def held_lock(path: StorePath, lost: Lost) -> Iterator[None]:
    """While the block runs, `require_held(path)` asks `lost`."""
    name = _name(path)
    _held[name] = lost
    try:
        yield
    finally:
        if _held.get(name) is lost:
            del _held[name]


def require_held(path: StorePath) -> None:
    """StoppedError when this process had the lock of `path` and lost it. It may have none: then nobody is asked."""
    lost = _held.get(_name(path))
    why = "" if lost is None else lost()
    if why:
        raise StoppedError(why)


def _name(path: StorePath) -> StorePath:
    return Path(os.path.realpath(path)) if isinstance(path, Path) else path
