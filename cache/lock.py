"""The lock of a folder's one writer: `<path>.lock`, a file that says who holds it.

On one machine the system's own lock on that file (flock) ends with its process, so a dead holder's is free at once.
Disks that machines share may keep such locks to each machine, or have none; there the record in the file decides, and
what this machine cannot judge is left to `mastaf-cache unlock`. The file appears whole and locked (it is linked into
place), and disappears at the end. A file that took its place meanwhile is another lock: hence `_same`.
"""

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .atomic import disk_full
from .checks import parse_json
from .errors import CacheError, StoppedError
from .held import held_lock
from .holder import ALIVE, GONE, MAX_RECORD, UNKNOWN, Holder

# The file system has no flock, or none for this file.
_NO_FLOCK = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_NO_FILES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Hold `<path>.lock` while the block runs.

    StoppedError, naming the holder, when another process holds it or cannot be judged from here; CacheError or OSError
    where no such file can be made.
    """
    lock = lock_file(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = None
    while held is None:
        held = _make(lock)
        if held is None:
            _remove_dead(path, lock)
    kept = held

    def lost() -> str:
        gone = f"the lock of {path} was removed, or another process has it now; run the same command again"
        return "" if _same(kept, lock) else gone

    try:
        _sweep(lock)
        with held_lock(path, lost):
            yield
    finally:
        with suppress(OSError):
            if _same(held, lock):
                lock.unlink()
        os.close(held)


def unlock_folder(path: Path, *, force: bool) -> str:
    """Remove the lock of a holder that is gone; with `force` also one that cannot be judged from here.

    Returns what was done, in words. StoppedError when a living process holds it, CacheError when `force` is needed.
    """
    lock = lock_file(path)
    found = _look(lock)
    if found is None:
        return f"{path} is not locked"
    try:
        if found.state == ALIVE:
            raise StoppedError(f"{path} is being written by {found.who}; stop that process, or wait for it")
        if found.state == UNKNOWN and not force:
            raise CacheError(
                f"{path} is locked by {found.who}, which cannot be checked from here; make sure that it is gone, then: "
                f"mastaf-cache unlock --force {path}"
            )
        _remove(lock, found.descriptor)
    finally:
        os.close(found.descriptor)
    return f"removed the lock of {path}: {found.who}, " + ("is gone" if found.state == GONE else "was not checked")


def lock_file(path: Path) -> Path:
    """Where the lock of `path` is: beside what a link leads to, so that all names of a folder have one lock."""
    path = Path(os.path.realpath(path))
    return path.with_name(path.name + ".lock")


@dataclass(frozen=True)
class _Found:
    """A lock file that is there, open, and perhaps flocked by `descriptor`. who: its holder, in words."""

    descriptor: int
    who: str
    state: str


def _make(lock: Path) -> int | None:
    """A descriptor of a new lock file with this process's record, flocked; None when there is a lock already."""
    data = json.dumps(Holder.here().to_json(), ensure_ascii=False).encode("utf-8", "replace")
    name = lock.with_name(f".{lock.name}.{os.urandom(8).hex()}")
    descriptor = None
    with disk_full(lock):
        try:
            descriptor = _write(name, data)
            os.link(name, lock, follow_symlinks=False)
            return descriptor
        except OSError as error:
            if descriptor is not None:
                os.close(descriptor)
            # Another's `_sweep` may remove the file before it is flocked: then its name is gone. Try again.
            if isinstance(error, FileExistsError) or (descriptor is not None and error.errno == errno.ENOENT):
                return None
            if descriptor is not None and error.errno in _NO_LINKS:
                return _make_in_place(lock, data)
            if error.errno not in _NO_FILES:
                raise OSError(error.errno, error.strerror, str(lock)) from error
            raise CacheError(f"{lock} cannot be written: no file can be made in {lock.parent}; use another") from error
        finally:
            with suppress(OSError):
                name.unlink()


def _make_in_place(lock: Path, data: bytes) -> int | None:
    """As `_make`, where files have one name each: for a moment the record is not there."""
    try:
        return _write(lock, data)
    except FileExistsError:
        return None


def _write(path: Path, data: bytes) -> int:
    """A descriptor of a new file with `data`, flocked where that is possible; FileExistsError when there is one."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if _flock(descriptor) is False:  # somebody looks at a file without a record, and will remove it
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        os.write(descriptor, data)
        os.fsync(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_dead(path: Path, lock: Path) -> None:
    """Remove a lock whose holder is gone; StoppedError when it is not, or nobody knows."""
    found = _look(lock)
    if found is None:
        return
    try:
        if found.state == ALIVE:
            raise StoppedError(
                f"another process is writing {path}: {found.who}; wait for it, stop it, or use another path"
            )
        if found.state == UNKNOWN:
            raise StoppedError(
                f"another process may be writing {path}: {found.who}, which cannot be checked from here; if it is "
                f"gone, mastaf-cache unlock --force {path}"
            )
        _remove(lock, found.descriptor)
    finally:
        os.close(found.descriptor)


def _look(lock: Path) -> _Found | None:
    """The lock file, if there is one; CacheError when it is a link or no plain file."""
    while True:
        try:
            descriptor = _open(lock)
        except FileNotFoundError:
            return None
        try:
            free = _flock(descriptor)
            if _same(descriptor, lock):
                who, state = _judge(descriptor, free=free)
                return _Found(descriptor, who, state)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was removed meanwhile


def _open(lock: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(lock, os.O_RDWR | flags)
        except PermissionError:
            descriptor = os.open(lock, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        raise CacheError(f"{lock} is no lock file of mastaf, but a link or a folder; remove it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CacheError(f"{lock} must be a plain file; it is none of mastaf's, so remove it")
    return descriptor


def _judge(descriptor: int, *, free: bool | None) -> tuple[str, str]:
    """Who holds an open lock, in words, and its state. free: as `_flock` found it."""
    try:
        holder = Holder.from_json(parse_json(os.pread(descriptor, MAX_RECORD, 0), "the lock"))
    except CacheError:
        # Records appear whole, so a machine died while it wrote this one, or it is no record.
        state = UNKNOWN if free is None else GONE if free else ALIVE
        return "a process that left no readable record", state
    if free is False:  # another machine's locks may be seen here, but not whether it still runs
        return str(holder), ALIVE if holder.is_of_this_system else UNKNOWN
    return str(holder), holder.state(lock_is_free=bool(free))


def _flock(descriptor: int) -> bool | None:
    """Whether the system's lock on a file is ours now; None where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    return True


def _same(descriptor: int, path: Path) -> bool:
    """Whether `path` still is the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _sweep(lock: Path) -> None:
    """Remove what processes that were killed while they made or removed this lock left beside it, if they are seen."""
    found: list[Path] = []
    with suppress(OSError):  # files can be made in some folders that cannot be listed
        found = list(lock.parent.iterdir())
    for left in found:
        if left.name.startswith(f".{lock.name}."):
            with suppress(OSError, CacheError):
                descriptor = _open(left)
                try:
                    if _flock(descriptor):  # whoever still works with it holds it
                        left.unlink()
                finally:
                    os.close(descriptor)


def _remove(lock: Path, judged: int) -> None:
    """Remove the lock file that was judged, and put back another that took its place meanwhile."""
    aside = lock.with_name(f".{lock.name}.{os.urandom(8).hex()}")
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return
    if not _same(judged, aside):
        with suppress(OSError):
            os.link(aside, lock, follow_symlinks=False)
    aside.unlink(missing_ok=True)
