"""The store of feature cubes: one interface over Zarr v3 (`.zarr`) and HDF5 (`.h5`), chosen by the suffix."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .base import Store
from .errors import CacheError, StoppedError
from .index import VideoIndex
from .packing import default_shard_rows, pack_float16
from .record import SCHEMA, ShardRecord, StoreHeader
from .staging import staged

__all__ = [
    "SCHEMA",
    "ShardRecord",
    "Store",
    "StoreHeader",
    "create_store",
    "default_shard_rows",
    "open_store",
    "pack_float16",
    "writer_lock",
]


def create_store(path: Path, *, header: StoreHeader, index: VideoIndex) -> Store:
    """Make a store without shards, whole or not at all, and open it.

    Raises CacheError when `path` exists or ends in another suffix than .zarr or .h5, OSError as the system gives it.
    """
    path = Path(path)
    kind = store_class(path)
    if len(index) == 0:
        raise CacheError(f"the index of {path} must have at least one video")
    with staged(path, kind.parts) as staging:
        kind.create(staging, header, index)
    return kind.open(path)


def open_store(path: Path) -> Store:
    """Open a store for reading, and for writing under `writer_lock`.

    Raises CacheError when there is none at `path`, CorruptStoreError when it is damaged or something else.
    """
    path = Path(path)
    kind = store_class(path)
    if not path.exists():
        raise CacheError(f"store ({path}) does not exist; make it with mastaf-extract --out {path}, or check the path")
    return kind.open(path)


def store_class(path: Path) -> type[Store]:
    """The class for a path's suffix; CacheError for another suffix."""
    if path.suffix == ".zarr":
        from .zarr_store import ZarrStore

        return ZarrStore
    if path.suffix == ".h5":
        from .hdf5_store import Hdf5Store

        return Hdf5Store
    raise CacheError(f"store ({path}) must end in .zarr or .h5")


@contextmanager
def writer_lock(path: Path) -> Iterator[None]:
    """Hold the lock of a store's one writer, `<path>.lock`.

    StoppedError when another process holds it; OSError or CacheError where no such file can be made.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(f"{path}.lock", timeout=0).acquire()
    except Timeout as error:
        # filelock takes a folder in which no file can be made for a lock that is held.
        if not path.with_name(path.name + ".lock").exists():
            raise CacheError(f"{path} cannot be written: no file can be made in {path.parent}; use another") from error
        raise StoppedError(f"another process is writing {path}; wait for it, or use another path") from error
    with lock:
        yield
