"""The files of a store by their names, wherever the store is: what a folder and object storage have in common."""

import shutil
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from .atomic import remove_leftovers, write_parts
from .checks import parse_json
from .held import require_held
from .place import ObjectUrl, StorePath
from .plain_files import map_file, read_file

Item = TypeVar("Item")
Result = TypeVar("Result")


class Content(Protocol):
    """The bytes of a file that is not read as a whole."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]: ...

    def whole(self) -> NDArray[np.uint8]:
        """All of it, uint8 [bytes]."""
        ...


class Files(Protocol):
    """Names are relative to the store's folder, with slashes: `cubes/zarr.json`. What is there may be a stranger's."""

    def where(self, name: str) -> StorePath:
        """The place of a file."""
        ...

    def read(self, name: str, *, limit: int) -> bytes:
        """The bytes of a file; FileNotFoundError when there is none, CorruptStoreError when it must not be read."""
        ...

    def content(self, name: str, *, tail: int, limit: int) -> NDArray[np.uint8] | Content:
        """A file's bytes, mapped; or where that cannot be, to be read in parts: its last `tail` bytes are there then,
        and CorruptStoreError is raised for more than `limit` bytes. Other errors as `read`."""
        ...

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """Put a file in place, whole or not at all. StoppedError when this process had the store's lock and lost it."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def clear(self) -> None:
        """Remove every file, and the folder."""
        ...

    def stamps(self, names: Sequence[str]) -> list[Hashable]:
        """For each file a value that changes with it, None where there is none."""
        ...

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function` of each item, in order; several at once where files are far away."""
        ...


class FolderFiles:
    """Files in a folder of this machine, which is resolved; of: the store's path, if it is another."""

    def __init__(self, folder: Path, *, of: Path | None = None) -> None:
        self.folder, self._store = folder, of or folder

    def where(self, name: str) -> Path:
        """See Files."""
        return self.folder / name

    def read(self, name: str, *, limit: int) -> bytes:
        """See Files; nothing is read through links."""
        return read_file(self.folder, name, limit=limit)

    def content(self, name: str, *, tail: int, limit: int) -> NDArray[np.uint8]:
        """See Files: a read-only memory map, of any length."""
        return map_file(self.folder, name)

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """See Files; for the store's one writer."""
        require_held(self._store)
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        remove_leftovers(path)
        write_parts(path, parts)

    def remove(self, name: str) -> None:
        """See Files."""
        (self.folder / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """See Files; a link in the folder's place is left alone."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def stamps(self, names: Sequence[str]) -> list[Hashable]:
        """See Files."""
        return [self._stamp(name) for name in names]

    def _stamp(self, name: str) -> Hashable:
        with suppress(FileNotFoundError, NotADirectoryError):
            found = (self.folder / name).lstat()
            return found.st_ino, found.st_mtime_ns, found.st_size
        return None

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """See Files."""
        return map(function, items)


def read_json(files: Files, name: str, *, limit: int) -> Any:
    """The JSON value in a file; errors as `Files.read`, and CorruptStoreError for damage."""
    return parse_json(files.read(name, limit=limit), str(files.where(name)))


def files_at(path: StorePath) -> Files:
    """The files of the store at `path`."""
    if isinstance(path, ObjectUrl):
        from .bucket_files import BucketFiles

        return BucketFiles(path)
    return FolderFiles(path.resolve())
