"""Whether a disk can hold what is about to be written, asked before the first byte."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from .errors import CacheError, StoppedError
from .place import StorePath

_LEAST_MARGIN = 16 << 20  # bytes that are left free whatever is written


def nearest_folder(path: Path) -> Path:
    """The folder that exists and would hold `path`, or what it leads to as a link: its parent, or one above."""
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    return folder


def free_bytes(path: StorePath) -> int | None:
    """Bytes that this user can still write on the disk of `path`; None in object storage. A quota is not seen."""
    if not isinstance(path, Path):
        return None
    return shutil.disk_usage(nearest_folder(path)).free


def lacking_room(needs: Sequence[tuple[StorePath, int]]) -> str:
    """'' or, naming bytes needed and free, which disk cannot hold what `needs` (path, bytes) would put there.

    Paths on one disk are added up; a hundredth, and 16 MiB at least, must be left free. Object storage has room.
    """
    by_disk: dict[int, list[tuple[Path, int]]] = {}
    for path, nbytes in needs:
        if not isinstance(path, Path):
            continue
        by_disk.setdefault(nearest_folder(path).stat().st_dev, []).append((path, nbytes))
    for of_disk in by_disk.values():
        new, free = sum(nbytes for _, nbytes in of_disk), shutil.disk_usage(nearest_folder(of_disk[0][0])).free
        wanted = new + max(new // 100, _LEAST_MARGIN)
        if new and wanted > free:
            paths = ", ".join(str(path) for path, _ in of_disk)
            return (
                f"the disk of {paths} has {free} bytes ({free / 1e9:.2f} GB) free, and {wanted} ({wanted / 1e9:.2f} "
                "GB) are needed"
            )
    return ""


def require_room(needs: Sequence[tuple[StorePath, int]], *, remedy: str) -> None:
    """StoppedError where `lacking_room` finds a disk too small; remedy: what to do then. CacheError for what is no
    disk, such as /proc."""
    for path, nbytes in needs:
        if nbytes and isinstance(path, Path) and shutil.disk_usage(nearest_folder(path)).total == 0:
            raise CacheError(f"{path} cannot be written: {nearest_folder(path)} takes no files; use another folder")
    lack = lacking_room(needs)
    if lack:
        raise StoppedError(f"{lack}; {remedy}")
