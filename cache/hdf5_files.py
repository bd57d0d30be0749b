"""HDF5 files of a store: made as bytes in memory, read with checks and without HDF5's own locks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .checks import brief
from .errors import CacheError, CorruptStoreError
from .plain_files import map_file

# Files of this range carry checksums of their metadata, and every HDF5 since 1.10, which virtual sets need, reads them.
_LIBVER = ("v110", "v110")


def file_bytes(fill: Callable[[Any], object]) -> bytes:
    """The bytes of an HDF5 file that `fill` writes: made in memory, because a full disk must not meet HDF5 itself."""
    import h5py

    with h5py.File("in-memory", "w", driver="core", backing_store=False, libver=_LIBVER) as file:
        fill(file)
        file.flush()
        return file.id.get_file_image()


@contextmanager
def opened(folder: Path, name: str) -> Iterator[Any]:
    """An HDF5 file for reading, without HDF5's own locks, which network file systems refuse."""
    import h5py

    map_file(folder, name)  # refuses links and whatever is no plain file
    try:
        with h5py.File(folder / name, "r", locking=False) as file:
            yield file
    except CacheError:
        raise
    # What h5py raises for damaged files, by the place of the damage.
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CorruptStoreError(f"HDF5 cannot read it ({brief(error)})") from error


def plain_dataset(file: Any, name: str, dtype: np.dtype[Any]) -> Any:
    """A data set with its bytes in this file as they are: no links, no external or virtual storage, no filters."""
    import h5py

    place = file
    for part in name.split("/"):
        if not isinstance(place, h5py.Group) or not isinstance(place.get(part, getlink=True), h5py.HardLink):
            raise CorruptStoreError(f"'{name}' is missing, or a link")
        place = place[part]
    if not isinstance(place, h5py.Dataset) or place.dtype != dtype:
        raise CorruptStoreError(f"'{name}' must be an array of {dtype.name}")
    if place.is_virtual or place.external is not None or place.chunks is not None:
        raise CorruptStoreError(f"'{name}' must be stored in one piece in its own file")
    return place
