"""The store as HDF5: a small main file that is written once, and one file a shard behind its virtual data set.

    NAME.h5              header: JSON, as UTF-8 bytes; index/<column>/{utf8,offsets}, see columns.py;
                         cubes float16 or int8 [n, views, c, t, h, w], virtual, over the shard files by relative names;
                         for int8 likewise scales, float16 [n, views, c]
    NAME.h5.shards/      00012.h5: cubes [r, views, c, t, h, w], scales, contiguous; 00012.json: the record of shard 12;
                         main.sha256: checksum of NAME.h5; label_overlap.json: what `mastaf-extract --labels` found

The main file is never opened for update: a process killed during one leaves a file that HDF5 refuses to open. For
the same reason shard files are made in memory and put in place as bytes. Keep both parts together, and their name:
h5py finds the shards by it (this module does not, so a renamed pair still opens here).

HDF5 itself may crash on a damaged file: one flipped byte in the list behind a virtual data set is enough. So the main
file's checksum comes first, and `cubes` is never opened here: shards are found by their numbers.

An h5py file must not be shared across fork, and DataLoader workers fork: two processes then move one file position
and read each other's bytes. Here no HDF5 file stays open; cubes are memory-mapped, which is safe to share.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .base import Store
from .checks import brief, parse_json
from .columns import MAX_COLUMN_BYTES, PARTS, index_arrays, read_index
from .errors import CacheError, CorruptStoreError
from .files import Files, FolderFiles
from .hdf5_files import file_bytes, opened, plain_dataset
from .index import VideoIndex
from .ledger import Ledger
from .packed import Packed, number_type
from .place import ObjectUrl, StorePath
from .plain_files import map_file, read_file
from .record import StoreHeader
from .shard_file import ShardFile

_CHECKSUM = "main.sha256"


class Hdf5Store(Store):
    """A store in NAME.h5 and NAME.h5.shards."""

    parts: ClassVar[tuple[str, ...]] = (".shards", "")
    _overlap_file: ClassVar[str] = "label_overlap.json"

    @classmethod
    def create(cls, path: Path, header: StoreHeader, index: VideoIndex) -> None:
        if header.compress:
            raise CacheError(
                f"compress '{header.compress}' is for .zarr stores: h5py has no zstd; leave out --compress"
            )
        columns = list(index_arrays(index))
        text = json.dumps(header.to_json(), ensure_ascii=False).encode("utf-8")

        def fill(file: Any) -> None:
            file.create_dataset("header", data=np.frombuffer(text, np.uint8))
            for name, part, values in columns:
                file.create_dataset(f"index/{name}/{part}", data=values)
            row, kind = header.spec.row_shape, number_type(header.spec)
            _create_virtual(file, "cubes", (len(index), *row), kind, path.name, header.shard_rows)
            if header.spec.dtype == "int8":
                _create_virtual(file, "scales", (len(index), *row[:2]), np.dtype("<f2"), path.name, header.shard_rows)

        data = file_bytes(fill)
        folder = path.with_name(path.name + ".shards")
        folder.mkdir()
        (folder / _CHECKSUM).write_text(f"{hashlib.sha256(data).hexdigest()}  ../{path.name}\n", encoding="utf-8")
        path.write_bytes(data)

    @classmethod
    def open(cls, path: StorePath) -> "Hdf5Store":
        if isinstance(path, ObjectUrl):
            raise CacheError(f"{path} must end in .zarr: object storage holds no HDF5")
        main = path.resolve()
        folder = main.with_name(main.name + ".shards")
        try:
            if folder.resolve() != folder or not folder.is_dir():
                raise CorruptStoreError(f"{folder} must be the folder of its shards; move both together")
            _check_main(main, folder)
            with opened(main.parent, main.name) as file:
                header = StoreHeader.from_json(parse_json(_read_array(file, "header", "u1").tobytes(), "the header"))
                index = read_index(lambda name, part: _read_array(file, f"index/{name}/{part}", PARTS[part]))
        except (CacheError, FileNotFoundError) as error:
            raise CorruptStoreError(f"{path} is no store of mastaf, or damaged: {brief(error, 300)}") from error
        return cls(path, header, index, folder)

    def __init__(self, path: Path, header: StoreHeader, index: VideoIndex, folder: Path) -> None:
        self._folder = folder
        super().__init__(path, header, index, FolderFiles(folder, of=path))

    def _make_ledger(self, files: Files, rows: list[range]) -> Ledger:
        names = [f"{shard:05d}.json" for shard in range(len(rows))]
        return Ledger(files, names, rows, wrap=lambda record: record, unwrap=lambda document: document)

    def _shard_name(self, shard: int) -> str:
        return f"{shard:05d}.h5"

    def _encode(self, shard: int, cubes: Packed) -> list[tuple[str, list[bytes | memoryview]]]:
        def fill(file: Any) -> None:
            file.create_dataset("cubes", data=cubes.numbers)
            if cubes.scales is not None:
                file.create_dataset("scales", data=cubes.scales)

        return [(self._shard_name(shard), [file_bytes(fill)])]

    def _open_shard(self, shard: int, shape: tuple[int, ...]) -> ShardFile:
        name = self._shard_name(shard)
        data = map_file(self._folder, name)
        with opened(self._folder, name) as file:
            numbers = _mapped(data, file, "cubes", number_type(self.spec), shape)
            int8 = self.spec.dtype == "int8"
            scales = _mapped(data, file, "scales", np.dtype("<f2"), shape[:3]) if int8 else None
        return ShardFile(shape, numbers=numbers, scales=scales)


def _mapped(
    data: NDArray[np.uint8], file: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """The data set `name` of a shard's file, as a part of its map `data`: of `shape`."""
    found = plain_dataset(file, name, dtype)
    offset = found.id.get_offset()
    if found.shape != shape or offset is None:
        raise CorruptStoreError(f"{name} are {list(found.shape)}, and must be {list(shape)} in one piece")
    end = offset + dtype.itemsize * math.prod(shape)
    if end > len(data):
        raise CorruptStoreError(f"the file is cut off: {len(data)} bytes of at least {end}")
    return data[offset:end].view(dtype).reshape(shape)


def _create_virtual(
    file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], main: str, shard_rows: int
) -> None:
    """The data set `name` over the shard files, by their names relative to the file `main`."""
    import h5py

    h5d, h5p, h5s, h5t = h5py.h5d, h5py.h5p, h5py.h5s, h5py.h5t

    n, *row = shape
    space, properties = h5s.create_simple(shape), h5p.create(h5p.DATASET_CREATE)
    # h5py's own way has no such switch, and the same store should be the same bytes.
    properties.set_obj_track_times(False)
    for shard, start in enumerate(range(0, n, shard_rows)):
        rows = min(shard_rows, n - start)
        space.select_hyperslab((start, *[0] * len(row)), (rows, *row))
        # HDF5 takes % in a source's name for a pattern.
        source = f"{main}.shards/{shard:05d}.h5".replace("%", "%%")
        properties.set_virtual(space, source.encode("utf-8"), name.encode(), h5s.create_simple((rows, *row)))
    space.select_all()
    h5d.create(file.id, name.encode(), h5t.py_create(dtype), space, dcpl=properties)


def _check_main(main: Path, folder: Path) -> None:
    """Raise CorruptStoreError unless the main file is, byte for byte, what was written once."""
    data = map_file(main.parent, main.name)
    if data[:8].tobytes() != b"\x89HDF\r\n\x1a\n":
        raise CorruptStoreError("it is no HDF5 file")
    if read_file(folder, _CHECKSUM, limit=4096)[:64] != hashlib.sha256(data.data).hexdigest().encode():
        raise CorruptStoreError(f"it changed since it was written (its sha256 is not that of {folder / _CHECKSUM})")


def _read_array(file: Any, name: str, dtype: Any) -> NDArray[np.generic]:
    """A 1-d array of the main file: [m]. Its bytes are in the file, so it is no larger than that."""
    array = plain_dataset(file, name, np.dtype(dtype))
    nbytes = array.size * array.dtype.itemsize if len(array.shape) == 1 else -1
    if not 0 <= nbytes <= MAX_COLUMN_BYTES or nbytes != array.id.get_storage_size():
        raise CorruptStoreError(f"{name} has shape {brief(array.shape)}, and other bytes")
    return array[:]
