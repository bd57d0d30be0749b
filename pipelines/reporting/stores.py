"""The stores that results were scored on, found by their digests where they are; nothing leaves this machine."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...cache.errors import CacheError
from ...cache.place import ObjectUrl, StorePath
from ...cache.store import Store, open_store

_SUFFIXES = (".zarr", ".h5")
_MOST, _DEEPEST = 200, 12


def find_stores(
    digests: Iterable[str], *, given: Sequence[StorePath], root: Path, named: Iterable[Any]
) -> tuple[dict[str, Store], list[StorePath]]:
    """Stores by digest, of those that are wanted, and what was given for nothing.

    given: by the user; root: a folder that may hold some; named: places that runs name, which may be anything. A store
    counts by its digest alone, wherever it lies. Raises CacheError for a given one that cannot be opened.
    """
    wanted, found, useless = set(digests), dict[str, Store](), list[StorePath]()
    for path in given:
        store = open_store(path)
        if store.digest in wanted:
            found.setdefault(store.digest, store)
        else:
            useless.append(path)
    for number, path in enumerate(_candidates(root, named)):
        if number >= _MOST or wanted <= set(found):
            break
        try:
            store = open_store(path)
        except (CacheError, OSError):
            continue  # nobody asked for this one
        if store.digest in wanted:
            found.setdefault(store.digest, store)
    return found, useless


def _candidates(root: Path, named: Iterable[Any]) -> Iterator[Path]:
    """Paths that end as stores do: those that runs name, those below the root, those in ./cache; each once."""
    seen = set()
    for path in (*_local(named), *_below(root), *sorted(Path("cache").glob("*"))):
        if path.suffix in _SUFFIXES and path not in seen:
            seen.add(path)
            yield path


def _local(named: Iterable[Any]) -> Iterator[Path]:
    # A stranger's run must not send this machine to an address.
    for place in named:
        if isinstance(place, str) and "://" not in place and "\0" not in place:
            yield Path(place)


def _below(root: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(root):
        place = Path(here)
        stores = sorted(name for name in folders + names if name.endswith(_SUFFIXES))
        folders[:] = [name for name in folders if not name.endswith((*_SUFFIXES, ".shards"))]
        if len(place.relative_to(root).parts) >= _DEEPEST:
            folders.clear()
        yield from (place / name for name in stores)


def words_of_place(store: Store) -> str:
    """Where a store is, as a command line takes it."""
    return str(store.path) if isinstance(store.path, ObjectUrl | Path) else ""
