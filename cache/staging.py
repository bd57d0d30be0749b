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
    for part in parts:
        _require_free(path, path.with_name(path.name + part))
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{_literal(path.name)}.*.making"):
        shutil.rmtree(leftover, ignore_errors=True)
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


def _require_free(path: Path, part: Path) -> None:
    # An empty folder may be what a run left that was killed between two moves; renaming over it is allowed.
    if part != path and part.is_dir() and not part.is_symlink() and not any(part.iterdir()):
        return
    if part.exists() or part.is_symlink():
        raise CacheError(f"{part} exists already; name another path, or move or remove it first")


def _sync_tree(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            with (Path(place) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_directory(Path(place))


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
