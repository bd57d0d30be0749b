"""Making a store of several files so that, killed at any moment, there is either the whole of it or nothing."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .atomic import disk_full, sync_directory
from .errors import CacheError


@contextmanager
def staged(path: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Yield a path of the same name in a new folder beside `path`; when the block ends well, move what it made.

    parts: what a store is made of, as its name + each, in the order of moving; the last one makes it a store.
    Raises CacheError when `path` exists, StoppedError when the disk is full. The caller is its only writer
    (`writer_lock`): what a killed run left in other such folders is removed.
    """
    _remove_leftovers(path, parts)
    for part in parts:
        place = path.with_name(path.name + part)
        if place.exists() or place.is_symlink():
            raise CacheError(f"{place} exists already; name another path, or move or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full(path):
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".making"))
        try:
            yield folder / path.name
            _sync_tree(folder)
            for part in parts:
                (folder / (path.name + part)).rename(path.with_name(path.name + part))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        sync_directory(path.parent)


def _remove_leftovers(path: Path, parts: tuple[str, ...]) -> None:
    for leftover in path.parent.glob(f".{_literal(path.name)}.*.making"):
        for part in parts[:-1]:
            # The last part is made last and moved last: still here without the others, it says who moved those.
            if (leftover / path.name).exists() and not (leftover / (path.name + part)).exists() and not path.exists():
                shutil.rmtree(path.with_name(path.name + part), ignore_errors=True)
        shutil.rmtree(leftover, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            with (Path(place) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_directory(Path(place))


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
