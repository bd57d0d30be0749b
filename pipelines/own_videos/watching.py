"""The videos that come into a folder, each once it is whole."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ...extract.decoding.fingerprint import fingerprint
from ..errors import PipelineError
from .support import videos_below


def arrivals(
    folder: Path,
    *,
    every_s: float,
    idle_s: float | None,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Iterator[list[Path]]:
    """The new videos below a folder, those that are there first, looking every `every_s` seconds.

    A video is new once it looked the same twice in a row: a file that is still being written does not. One that has
    changed since is new again. Ends when nothing has come or changed for `idle_s` seconds; never, if None.
    PipelineError where the folder itself is gone.
    """
    given: dict[Path, str] = {}
    before: dict[Path, str] = {}
    last = now()
    while True:
        here = _look(folder)
        changed = [path for path, state in here.items() if state and given.get(path) != state]
        ready = [path for path in changed if before.get(path) == here[path]]
        if ready:
            given.update((path, here[path]) for path in ready)
            yield ready
        given = {path: state for path, state in given.items() if path in here}
        before = here
        if changed:
            last = now()
        elif idle_s is not None and now() - last >= idle_s:
            return
        sleep(every_s)


def _look(folder: Path) -> dict[Path, str]:
    """The state of each video below a folder."""
    while folder.is_dir():
        try:
            return {path: fingerprint(path) for path in videos_below(folder)}
        except (FileNotFoundError, NotADirectoryError):
            continue  # a folder in it was taken away meanwhile: look again
    raise PipelineError(f"watch ({folder}) is no folder any more; make it again, and run this again")
