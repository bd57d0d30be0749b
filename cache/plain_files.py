"""Reading files of a store that a stranger may have made: no links, nothing but plain files, no surprising sizes."""

import mmap
import os
import resource
import stat
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import CorruptStoreError


def read_file(folder: Path, name: str, *, limit: int) -> bytes:
    """The bytes of `folder / name`, where `folder` is already resolved.

    Raises CorruptStoreError when a link leads there, or it is no plain file, or longer than `limit` bytes;
    FileNotFoundError when there is none.
    """
    descriptor = _open(folder, name)
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise CorruptStoreError(f"{folder / name} must be at most {limit} bytes; this is no store of mastaf")
    return data


def map_file(folder: Path, name: str) -> NDArray[np.uint8]:
    """`folder / name` as a read-only memory map, uint8 [bytes]; errors as in `read_file`."""
    descriptor = _open(folder, name)
    try:
        if os.fstat(descriptor).st_size == 0:
            return np.zeros(0, np.uint8)
        # Before Python 3.13 a map keeps its own descriptor open.
        untracked = {"trackfd": False} if sys.version_info >= (3, 13) else {}
        return np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ, **untracked), dtype=np.uint8)
    finally:
        os.close(descriptor)


def most_maps(share: int) -> int:
    """Maps that a part of the program may hold at once: one in `share` of the descriptors that this process may have.

    Each map costs one before Python 3.13, and everything else needs some.
    """
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(8, soft // share)


def _open(folder: Path, name: str) -> int:
    path = folder / name
    if path.resolve() != path:
        raise CorruptStoreError(
            f"{path} leads elsewhere by a symbolic link, which a store must not hold; copy the file"
        )
    # Without O_NONBLOCK a named pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptStoreError(f"{path} must be a plain file; this is no store of mastaf")
    return descriptor
