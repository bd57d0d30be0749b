"""A store's cubes as files that other programs read: `.npz`, WebDataset shards, safetensors."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import export_formats
from .atomic import write_json
from .base import Store
from .console import unknown_name
from .errors import CacheError, CorruptStoreError
from .export_names import FORMATS
from .index import DONE, MISSING, SPLITS, STATE_NAMES
from .room import require_room
from .staging import staged
from .writing import row_digest

SCHEMA = 1
INDEX_FILE = "index.json"
SHARD_BYTES = 256_000_000
_LONGEST_NAME = 60
_BESIDE = 4096  # bytes of a video's facts, in its file and in the index; a disk's blocks


def export_store(
    store: Store,
    out: Path,
    *,
    format: str,
    split: str | None = None,
    view: str = "plain",
    shard_bytes: int = SHARD_BYTES,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write the done rows of a store into the new folder `out`, which appears whole or not at all; returns its index.

    Cubes are written in float16, also those that the store keeps as int8.
    format: a name of FORMATS; split: that one alone, None for all; view: by name; shard_bytes: size of a file that
    holds several videos, about; advance: called with the rows of each shard of the store. The index (`out/index.json`)
    has the recipe, where each cube is, and which rows were left out because they are not done. The same store gives
    the same bytes. The caller holds `writer_lock(out)`.
    Raises CacheError when `out` exists or there is nothing to write, CorruptStoreError naming a row whose bytes do not
    match its checksum, StoppedError when the disk cannot hold it.
    """
    if format not in FORMATS:
        raise CacheError(unknown_name("format", format, FORMATS))
    if view not in store.spec.views:
        raise CacheError(unknown_name("view", view, store.spec.views))
    if split is not None and split not in SPLITS:
        raise CacheError(unknown_name("split", split, SPLITS))
    store.refresh()
    wanted = np.array([split in (None, name) for name in store.index.splits])  # [n]
    if not wanted.any():
        raise CacheError(f"{store.path} has no class of the split {split}; its splits: {', '.join(_splits(store))}")
    rows = np.flatnonzero(wanted & (store.states() == DONE))  # [m]
    if not len(rows):
        raise CacheError(f"{store.path} has no cube{f' of {split}' if split else ''} yet; finish the extraction first")
    cube_bytes = 2 * int(np.prod(store.spec.cube_shape))
    require_room([(out, len(rows) * (cube_bytes + _BESIDE))], remedy="free some space, or export to another disk")
    with staged(out, ("",)) as folder:
        folder.mkdir()
        kind: type[export_formats.Writer] = getattr(export_formats, FORMATS[format])
        with kind(folder, shard_bytes) as writer:
            places = [
                _facts(store, row) | writer.add(_name(row, store.index.keys[row]), _facts(store, row), cube)
                for row, cube in _cubes(store, set(rows.tolist()), store.spec.views.index(view), advance)
            ]
        index = _index(store, format, view, places, np.flatnonzero(wanted & (store.states() != DONE)).tolist())
        write_json(folder / INDEX_FILE, index)
    return index


def _splits(store: Store) -> list[str]:
    """Those that have a class, in their usual order."""
    return [name for name in SPLITS if name in store.index.splits]


def _cubes(
    store: Store, rows: set[int], view: int, advance: Callable[[int], None] | None
) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Each of `rows`, rising, with its cube [c, t, h, w], once its checksum was found right."""
    for shard in range(store.n_shards):
        of_shard = store.shard_range(shard)
        record = store.record(shard)
        if record is not None and not rows.isdisjoint(of_shard):
            opened = store.open_shard(shard)
            for slot, row in enumerate(of_shard):
                if row in rows:
                    views = opened.row(slot)  # [views, c, t, h, w]
                    if row_digest(views) != record.sha256[slot]:
                        raise CorruptStoreError(
                            f"'{store.index.keys[row]}' (row {row}) of {store.path} is damaged; run mastaf-cache "
                            f"verify {store.path}"
                        )
                    yield row, views[view].values()
            store.release(shard)
        if advance is not None:
            advance(len(of_shard))


def _name(row: int, key: str) -> str:
    """A name that is safe on any disk and in any archive, whatever the key holds: the row tells names apart, and what
    is left of the key is for people. WebDataset ends a name at its first dot."""
    return f"{row:07d}_{re.sub('[^A-Za-z0-9_-]+', '-', key)[:_LONGEST_NAME]}"


def _facts(store: Store, row: int) -> dict[str, Any]:
    index = store.index
    return {
        "row": row,
        "key": index.keys[row],
        "class": index.classes[row],
        "split": index.splits[row],
        "group": index.groups[row],
        "recipe": store.spec.recipe,
    }


def _index(store: Store, format: str, view: str, places: list[dict[str, Any]], absent: list[int]) -> dict[str, Any]:
    states, reasons = store.states().tolist(), store.reasons()
    left_out = [
        {"key": store.index.keys[row], "split": store.index.splits[row], "state": STATE_NAMES[states[row]]}
        | {"reason": "not extracted yet" if states[row] == MISSING else reasons[row]}
        for row in absent
    ]
    return {
        "schema": SCHEMA,
        "format": format,
        "view": view,
        "dataset": store.header.dataset,
        "split_scheme": store.header.split_scheme,
        "recipe": store.spec.recipe,
        "store": store.digest,
        "spec": store.spec.to_json(),
        "left_out": left_out,
        # The recipe stands above; here it would be repeated for every video.
        "videos": [{name: value for name, value in place.items() if name != "recipe"} for place in places],
    }
