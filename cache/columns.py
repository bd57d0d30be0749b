"""The index as arrays that every reader opens: a column is its UTF-8 bytes, one after another, and offsets.

    column  walk, run, sit      utf8     w a l k r u n s i t      uint8 [10]
                                offsets  0       4     7     10   int64 [rows + 1]

Row i is utf8[offsets[i]:offsets[i + 1]].

Arrays of variable-length strings would be shorter to write, but Zarr readers do not agree on them yet.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .errors import CacheError, CorruptStoreError
from .index import VideoIndex

COLUMNS = ("path", "key", "class", "split", "group")
PARTS = {"utf8": np.dtype("u1"), "offsets": np.dtype("<i8")}
# Index columns above this are no index: it would be 40 million paths of 100 bytes.
MAX_COLUMN_BYTES = 4 << 30


def index_arrays(index: VideoIndex) -> Iterator[tuple[str, str, NDArray[np.generic]]]:
    """(column, part, array [m]) of every array of the index. CacheError for names that are not Unicode."""
    for name, column in index.to_columns().items():
        try:
            encoded = [text.encode("utf-8") for text in column]
        except UnicodeEncodeError as error:
            raise CacheError(f"{name} {error.object!a} must be Unicode text; rename that file or folder") from error
        offsets = np.zeros(len(encoded) + 1, PARTS["offsets"])
        np.cumsum([len(text) for text in encoded], out=offsets[1:])
        yield name, "utf8", np.frombuffer(b"".join(encoded), PARTS["utf8"])
        yield name, "offsets", offsets


def read_index(read: Callable[[str, str], NDArray[np.generic]]) -> VideoIndex:
    """Rebuild the index from `read(column, part) -> array [m]` of the right dtype; CorruptStoreError if it is none."""
    columns = {name: _decode(name, read(name, "utf8"), read(name, "offsets")) for name in COLUMNS}
    try:
        return VideoIndex.from_columns(columns)
    except CacheError as error:
        raise CorruptStoreError(str(error)) from error


def _decode(name: str, utf8: NDArray[np.generic], offsets: NDArray[np.generic]) -> tuple[str, ...]:
    limits = offsets.tolist()
    rising = all(a <= b for a, b in pairwise(limits))
    if not limits or limits[0] != 0 or limits[-1] != len(utf8) or not rising:
        raise CorruptStoreError(f"the offsets of index column '{name}' are damaged")
    data = utf8.tobytes()
    try:
        return tuple(data[a:b].decode("utf-8") for a, b in pairwise(limits))
    except UnicodeDecodeError as error:
        raise CorruptStoreError(f"index column '{name}' is damaged: no UTF-8 text") from error
