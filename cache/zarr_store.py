"""The store as a Zarr v3 group. zarr-python makes it; shards are put in place and read without it (see sharding.py).

NAME.zarr/zarr.json                     the header, as attribute `mastaf` of the group
          cubes/zarr.json               float16 [n, views, c, t, h, w]; chunk = one cube, shard = shard_rows rows
          cubes/c.12.0.0.0.0.0          one file a shard
          index/<column>/{utf8,offsets} see columns.py
          shards/00012/zarr.json        the record of shard 12, as attributes of a group
          label_overlap/zarr.json       what `mastaf-extract --labels` found, likewise; not there until then
"""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from . import zstd_cubes
from .base import Store
from .checks import brief, json_digest
from .columns import index_arrays, read_index
from .errors import CacheError, CorruptStoreError
from .files import Content, Files, files_at, read_json
from .index import VideoIndex
from .ledger import Ledger, unwrap_zarr, wrap_zarr
from .packing import row_bytes
from .place import StorePath
from .record import StoreHeader
from .shard_file import ShardFile
from .sharding import decode_index, encode_index, in_order, index_bytes
from .zarr_layout import MAX_JSON, check_cubes, read_array

_AXES = ("row", "view", "c", "t", "h", "w")


class ZarrStore(Store):
    """A store in a folder NAME.zarr, or below an address that ends so."""

    parts: ClassVar[tuple[str, ...]] = ("",)
    _overlap_file: ClassVar[str] = "label_overlap/zarr.json"

    @classmethod
    def create(cls, path: Path, header: StoreHeader, index: VideoIndex) -> None:
        import zarr
        from zarr.codecs import ZstdCodec

        attributes = {"mastaf": header.to_json(), "sha256": _seal(header, index)}
        group = zarr.create_group(path, attributes=attributes, zarr_format=3)
        group.create_array(
            "cubes",
            shape=(len(index), *header.spec.row_shape),
            shards=(header.shard_rows, *header.spec.row_shape),
            chunks=(1, 1, *header.spec.cube_shape),
            dtype="float16",
            compressors=ZstdCodec(level=zstd_cubes.LEVEL) if header.compress else None,
            fill_value=0,
            dimension_names=_AXES,
            chunk_key_encoding={"name": "default", "separator": "."},
        )
        columns = group.create_group("index")
        for name, part, values in index_arrays(index):
            column = columns.require_group(name)
            array = column.create_array(
                part,
                shape=values.shape,
                chunks=(max(1, len(values)),),
                dtype=values.dtype,
                compressors=None,
                fill_value=0,
                config={"write_empty_chunks": True},
            )
            array[:] = values
        group.create_group("shards")

    @classmethod
    def open(cls, path: StorePath) -> "ZarrStore":
        files = files_at(path)
        try:
            attributes = unwrap_zarr(read_json(files, "zarr.json", limit=MAX_JSON))
            header = StoreHeader.from_json(attributes.get("mastaf"))
            index = read_index(lambda column, part: read_array(files, column, part))
            check_cubes(files, header, len(index))
            if attributes.get("sha256") != _seal(header, index):
                raise CorruptStoreError("header or index changed since they were written (sha256 differs)")
        except (CacheError, AttributeError, FileNotFoundError, NotADirectoryError) as error:
            raise CorruptStoreError(f"{path} is no store of mastaf, or damaged: {brief(error, 300)}") from error
        return cls(path, header, index, files)

    def _make_ledger(self, files: Files, rows: list[range]) -> Ledger:
        names = [f"shards/{shard:05d}/zarr.json" for shard in range(len(rows))]
        return Ledger(files, names, rows, wrap=wrap_zarr, unwrap=unwrap_zarr)

    def _shard_name(self, shard: int) -> str:
        return f"cubes/c.{shard}.0.0.0.0.0"

    def _encode(self, cubes: NDArray[np.float16]) -> list[bytes | memoryview]:
        each = cubes.reshape(-1, *cubes.shape[2:])  # [r * views, c, t, h, w]
        pieces: list[bytes | memoryview] = [cube.data.cast("B") for cube in each]
        if self.header.compress:
            pieces = [zstd_cubes.compress(cube) for cube in each]
        return [*pieces, encode_index([len(piece) for piece in pieces], self._chunks)]

    @property
    def _chunks(self) -> int:
        return self.header.shard_rows * len(self.spec.views)

    def _open_shard(self, name: str, shape: tuple[int, ...]) -> ShardFile:
        # Frames of what zstd cannot shrink are a little larger than the cubes; a stranger's may be larger still.
        limit = 2 * row_bytes(self.spec) * self.header.shard_rows + index_bytes(self._chunks) + (1 << 20)
        return self._shard_of(self._files.content(name, tail=index_bytes(self._chunks), limit=limit), shape)

    def _shard_of(self, data: NDArray[np.uint8] | Content, shape: tuple[int, ...]) -> ShardFile:
        index = decode_index(data, self._chunks, shape[0] * shape[1])
        cube_bytes = 2 * math.prod(shape[2:])
        if isinstance(data, np.ndarray) and not self.header.compress and in_order(index, cube_bytes):
            cubes = data[: len(index) * cube_bytes].view("<f2")
            return ShardFile(shape, cubes=cubes.reshape(shape))  # [r, views, c, t, h, w]
        compressed = bool(self.header.compress)

        def fill(slot: int, view: int, out: NDArray[np.float16]) -> None:
            start, size = index[slot * shape[1] + view].tolist()
            _decode(data[start : start + size], out, compressed=compressed)

        if isinstance(data, np.ndarray):
            return ShardFile(shape, fill=fill)
        return ShardFile(shape, fill=fill, load=lambda: self._shard_of(data.whole(), shape))


def _seal(header: StoreHeader, index: VideoIndex) -> str:
    """sha256 (hex) of header and index, which are written once."""
    return json_digest([header.to_json(), index.to_columns()])


def _decode(piece: NDArray[np.uint8], out: NDArray[np.float16], *, compressed: bool) -> None:
    room = out.reshape(-1).view(np.uint8)  # [bytes of a cube]
    if compressed:
        zstd_cubes.decompress(piece, room)
    elif len(piece) == len(room):
        room[:] = piece
    else:
        raise CorruptStoreError(f"a cube has {len(piece)} bytes, and must have {len(room)}")
