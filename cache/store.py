"""The store of feature cubes: one interface over Zarr v3 (`.zarr`) and HDF5 (`.h5`), chosen by the suffix."""

from contextlib import AbstractContextManager

from .base import Store
from .errors import CacheError
from .index import VideoIndex
from .lease import lease, unlock_lease
from .lock import folder_lock, unlock_folder
from .packing import default_shard_rows, pack_float16, pack_int8
from .place import ObjectUrl, StorePath, store_path
from .record import SCHEMA, ShardRecord, StoreHeader
from .staging import staged
from .upload import uploaded

__all__ = [
    "SCHEMA",
    "ShardRecord",
    "Store",
    "StoreHeader",
    "create_store",
    "default_shard_rows",
    "open_store",
    "pack_float16",
    "pack_int8",
    "store_path",
    "unlock",
    "writer_lock",
]


def create_store(path: str | StorePath, *, header: StoreHeader, index: VideoIndex) -> Store:
    """Make a store without shards, whole or not at all, and open it.

    Raises CacheError when `path` exists or ends in another suffix than .zarr or .h5, OSError as the system gives it.
    """
    path = store_path(path)
    kind = store_class(path)
    if len(index) == 0:
        raise CacheError(f"the index of {path} must have at least one video")
    with uploaded(path) if isinstance(path, ObjectUrl) else staged(path, kind.parts) as staging:
        kind.create(staging, header, index)
    return kind.open(path)


def open_store(path: str | StorePath) -> Store:
    """Open a store for reading, and for writing under `writer_lock`.

    Raises CacheError when there is none at `path`, CorruptStoreError when it is damaged or something else.
    """
    path = store_path(path)
    kind = store_class(path)
    if not path.exists():
        raise CacheError(
            f"store ({path}) does not exist; make it with mastaf-extract --backbone NAME --dataset NAME --out {path}, "
            "or check the path"
        )
    return kind.open(path)


def store_class(path: StorePath) -> type[Store]:
    """The class for a path's suffix; CacheError for another suffix, or one that its place cannot hold."""
    if path.suffix == ".zarr":
        from .zarr_store import ZarrStore

        return ZarrStore
    if isinstance(path, ObjectUrl):
        raise CacheError(f"store ({path}) must end in .zarr: object storage holds Zarr alone")
    if path.suffix == ".h5":
        from .hdf5_store import Hdf5Store

        return Hdf5Store
    raise CacheError(f"store ({path}) must end in .zarr or .h5")


def writer_lock(path: StorePath) -> AbstractContextManager[None]:
    """Hold the lock of the one writer of `path` while the block runs.

    StoppedError, naming the holder, when another process holds it; OSError or CacheError where none can be made.
    """
    return lease(path) if isinstance(path, ObjectUrl) else folder_lock(path)


def unlock(path: StorePath, *, force: bool) -> str:
    """Remove the lock of a writer of `path` that is gone; with `force` also of one that cannot be checked from here.

    Returns what was done, in words. StoppedError when a living process holds it, CacheError when `force` is needed.
    """
    return unlock_lease(path, force=force) if isinstance(path, ObjectUrl) else unlock_folder(path, force=force)
