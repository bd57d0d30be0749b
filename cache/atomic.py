"""Files that appear whole or not at all: written beside, flushed to the disk, renamed."""

import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .checks import json_text
from .errors import StoppedError


def sync_directory(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_full(target: Path) -> Iterator[None]:
    """Turn the system's "no space left" inside the block into StoppedError that names `target`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoppedError(
            f"the disk is full, so {target} could not be written; free some space and run the same command again: "
            "what was finished before is kept"
        ) from error


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a new empty file beside `target`; when the block ends well, flush it and rename it to `target`.

    For libraries that insist on opening a path themselves. On an error the new file is removed and `target` is
    as it was. Raises StoppedError when the disk is full, else OSError as the system gives it (no permission).
    """
    target = Path(target)
    with disk_full(target):
        # The suffix stays, because libraries choose a format by it.
        try:
            descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=target.suffix)
        except OSError as error:
            # Not the passing name of the new file, which nobody asked for.
            raise OSError(error.errno, error.strerror, str(target)) from error
        temporary = Path(name)
        try:
            os.close(descriptor)
            yield temporary
            with temporary.open("rb") as stream:
                # Last: a library may have put a file of its own there (safetensors 0.8 does, readable by nobody else).
                os.fchmod(stream.fileno(), 0o666 & ~_umask())
                os.fsync(stream.fileno())
            temporary.replace(target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_directory(target.parent)


@contextmanager
def atomic_write(target: Path) -> Iterator[BinaryIO]:
    """Yield a binary stream whose bytes become `target`, whole, when the block ends well."""
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        yield stream


def write_parts(target: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write pieces of bytes, one after another, to `target` whole or not at all."""
    with atomic_write(target) as stream:
        for part in parts:
            stream.write(part)


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target` whole or not at all."""
    write_parts(target, [data])


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON (NaN is refused: it is not JSON), whole or not at all."""
    write_bytes(target, json_text(value))


def remove_leftovers(target: Path) -> None:
    """Remove what a killed run left beside `target`; for its one writer."""
    for entry in os.scandir(target.parent):
        if entry.name.startswith(f".{target.name}.") and entry.is_file(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
