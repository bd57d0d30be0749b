"""What the `zarr.json` files of a store may say. Anything else is refused rather than interpreted.

So a stranger's store cannot choose codecs, places or sizes; and opening one needs no import of zarr.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checks import brief
from .columns import MAX_COLUMN_BYTES, PARTS
from .errors import CorruptStoreError
from .files import Files, read_json
from .record import StoreHeader

MAX_JSON = 64 << 20


def read_array(files: Files, column: str, part: str) -> NDArray[np.generic]:
    """One array of the index, 1-d, uncompressed and in one chunk: [m]. CorruptStoreError when it is not that."""
    name, dtype = f"index/{column}/{part}", PARTS[part]
    document = read_json(files, f"{name}/zarr.json", limit=MAX_JSON)
    shape = document.get("shape") if isinstance(document, dict) else None
    if not (isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int)):
        raise CorruptStoreError(f"shape of {name} is {brief(shape)}, and must be one length")
    nbytes = shape[0] * dtype.itemsize
    if not 0 <= nbytes <= MAX_COLUMN_BYTES:
        raise CorruptStoreError(f"shape of {name} is {brief(shape)}, too large for an index")
    expected = {"data_type": dtype.name, "chunk_grid": _grid([max(1, shape[0])]), "chunk_key_encoding": _keys("/")}
    _require(document, expected, name)
    _require_codecs(document.get("codecs"), ["bytes"], name)
    data = files.read(f"{name}/c/0", limit=nbytes) if nbytes else b""
    if len(data) != nbytes:
        raise CorruptStoreError(f"{name} has {len(data)} bytes, and must have {nbytes}")
    return np.frombuffer(data, dtype)


def check_cubes(files: Files, header: StoreHeader, n: int) -> None:
    """Raise CorruptStoreError unless the array `cubes` is exactly what `header` and an index of `n` rows call for."""
    document = read_json(files, "cubes/zarr.json", limit=MAX_JSON)
    row = list(header.spec.row_shape)
    expected = {"shape": [n, *row], "data_type": "float16", "chunk_key_encoding": _keys(".")}
    _require(document, expected | {"chunk_grid": _grid([header.shard_rows, *row])}, "cubes")
    _require_codecs(document.get("codecs"), ["sharding_indexed"], "cubes")
    sharding = document["codecs"][0].get("configuration")
    _require(sharding, {"chunk_shape": [1, 1, *row[1:]], "index_location": "end"}, "the sharding of cubes")
    _require_codecs(sharding.get("index_codecs"), ["bytes", "crc32c"], "the index of shards")
    _require_codecs(sharding.get("codecs"), ["bytes", "zstd"] if header.compress else ["bytes"], "one cube")


def _grid(chunk_shape: list[int]) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


def _keys(separator: str) -> dict[str, Any]:
    return {"name": "default", "configuration": {"separator": separator}}


def _require(document: Any, expected: dict[str, Any], what: str) -> None:
    if not isinstance(document, dict):
        raise CorruptStoreError(f"the description of {what} must be a JSON object")
    for key, value in expected.items():
        if document.get(key) != value:
            raise CorruptStoreError(f"{key} of {what} is {brief(document.get(key))}, and must be {brief(value)}")


def _require_codecs(codecs: Any, names: list[str], what: str) -> None:
    found = [codec.get("name") for codec in codecs if isinstance(codec, dict)] if isinstance(codecs, list) else []
    if found != names:
        raise CorruptStoreError(f"codecs of {what} are {brief(found)}, and must be {brief(names)}")
    # Readers write the byte order of one-byte types or leave it out; big-endian is the only wrong value.
    if {"endian": "big"} in [codec.get("configuration") for codec in codecs]:
        raise CorruptStoreError(f"{what} must be stored little-endian")
