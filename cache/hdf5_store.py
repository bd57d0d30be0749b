"""The store as HDF5: a small main file that is written once, and one file a shard behind its virtual data set.

    NAME.h5              attribute `mastaf`: the header, JSON; index/<column>/{utf8,offsets}, see columns.py;
                         cubes float16 [n, views, c, t, h, w], virtual, over the shard files by relative names
    NAME.h5.shards/      00012.h5: cubes [r, views, c, t, h, w], contiguous; 00012.json: the record of shard 12

The main file is never opened for update: a process killed during one leaves a file that HDF5 refuses to open. For
the same reason shard files are made in memory and put in place as bytes. Keep both parts together, and their name:
h5py finds the shards by it (this module does not, so a renamed pair still opens here).

An h5py file must not be shared across fork, and DataLoader workers fork: two processes then move one file position
and read each other's bytes. Here no HDF5 file stays open; cubes are memory-mapped, which is safe to share.
"""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Store
from .checks import brief, parse_json
from .columns import MAX_COLUMN_BYTES, PARTS, index_arrays, read_index
from .errors import CacheError, CorruptStoreError
from .hdf5_files import file_bytes, opened, plain_dataset
from .index import VideoIndex
from .ledger import Ledger
from .plain_files import map_file
from .record import StoreHeader
from .shard_file import ShardFile

_SOURCE = re.compile(r"[^/]+\.h5\.shards/(\d{5,})\.h5")


class Hdf5Store(Store):
    """A store in NAME.h5 and NAME.h5.shards."""

    parts: ClassVar[tuple[str, ...]] = (".shards", "")

    @classmethod
    def create(cls, path: Path, header: StoreHeader, index: VideoIndex) -> None:
        if header.compress:
            raise CacheError(
                f"compress '{header.compress}' is for .zarr stores: h5py has no zstd; leave out --compress"
            )
        columns = list(index_arrays(index))

        def fill(file: Any) -> None:
            file.attrs["mastaf"] = json.dumps(header.to_json(), ensure_ascii=False)
            for name, part, values in columns:
                file.create_dataset(f"index/{name}/{part}", data=values)
            file.create_virtual_dataset("cubes", _virtual_layout(path.name, header, len(index)), fillvalue=0)

        path.with_name(path.name + ".shards").mkdir()
        path.write_bytes(file_bytes(fill))

    @classmethod
    def open(cls, path: Path) -> "Hdf5Store":
        main = path.resolve()
        try:
            with opened(main.parent, main.name) as file:
                header = StoreHeader.from_json(parse_json(_text(file.attrs.get("mastaf")), "the header"))
                index = read_index(lambda column, part: _read_array(file, column, part))
                _check_cubes(file, header, len(index))
        except (CacheError, FileNotFoundError) as error:
            raise CorruptStoreError(f"{path} is no store of mastaf, or damaged: {brief(error, 300)}") from error
        folder = main.with_name(main.name + ".shards")
        if folder.resolve() != folder or not folder.is_dir():
            raise CorruptStoreError(f"{folder} must be the folder of the shards of {path}; move both together")
        return cls(path, header, index, folder)

    def _make_ledger(self, folder: Path, rows: list[range]) -> Ledger:
        names = [f"{shard:05d}.json" for shard in range(len(rows))]
        return Ledger(folder, names, rows, wrap=lambda record: record, unwrap=lambda document: document)

    def _shard_name(self, shard: int) -> str:
        return f"{shard:05d}.h5"

    def _encode(self, cubes: NDArray[np.float16]) -> list[bytes | memoryview]:
        return [file_bytes(lambda file: file.create_dataset("cubes", data=cubes))]

    def _open_shard(self, name: str, shape: tuple[int, ...]) -> ShardFile:
        data = map_file(self._folder, name)
        with opened(self._folder, name) as file:
            cubes = plain_dataset(file, "cubes", np.dtype("<f2"))
            offset = cubes.id.get_offset()
            if cubes.shape != shape or offset is None:
                raise CorruptStoreError(f"cubes are {list(cubes.shape)}, and must be {list(shape)} in one piece")
        end = offset + 2 * int(np.prod(shape, dtype=np.int64))
        if end > len(data):
            raise CorruptStoreError(f"the file is cut off: {len(data)} bytes of at least {end}")
        return ShardFile(shape, cubes=data[offset:end].view("<f2").reshape(shape))  # [r, views, c, t, h, w]


def _virtual_layout(name: str, header: StoreHeader, n: int) -> Any:
    import h5py

    row = header.spec.row_shape
    layout = h5py.VirtualLayout(shape=(n, *row), dtype="<f2")
    for shard, start in enumerate(range(0, n, header.shard_rows)):
        stop = min(start + header.shard_rows, n)
        # HDF5 takes % in a source's name for a pattern.
        source = f"{name}.shards/{shard:05d}.h5".replace("%", "%%")
        layout[start:stop] = h5py.VirtualSource(source, "cubes", shape=(stop - start, *row))
    return layout


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise CorruptStoreError("it has no attribute 'mastaf' with the header")
    return value.encode("utf-8", "surrogateescape")


def _read_array(file: Any, column: str, part: str) -> NDArray[np.generic]:
    array = plain_dataset(file, f"index/{column}/{part}", PARTS[part])
    nbytes = array.size * PARTS[part].itemsize if len(array.shape) == 1 else -1
    if not 0 <= nbytes <= MAX_COLUMN_BYTES or nbytes != array.id.get_storage_size():
        raise CorruptStoreError(f"index column '{column}' has shape {brief(array.shape)}, and other bytes")
    return array[:]


def _check_cubes(file: Any, header: StoreHeader, n: int) -> None:
    import h5py

    cubes = file.get("cubes") if isinstance(file.get("cubes", getlink=True), h5py.HardLink) else None
    shape = (n, *header.spec.row_shape)
    if not isinstance(cubes, h5py.Dataset) or cubes.shape != shape or cubes.dtype != np.dtype("<f2"):
        raise CorruptStoreError(f"cubes must be float16 {list(shape)}, and are {brief(cubes)}")
    if not cubes.is_virtual:
        raise CorruptStoreError("cubes must be a virtual data set over the shard files")
    for shard, source in enumerate(cubes.virtual_sources()):
        match = _SOURCE.fullmatch(source.file_name)
        if match is None or int(match[1]) != shard or source.dset_name != "cubes":
            raise CorruptStoreError(f"cubes lead to {brief(source.file_name)}, outside the store")
