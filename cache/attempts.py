"""Marks of shards at work, for runs of several processes: who holds a shard, and how often it was begun.

    NAME.zarr.attempts/run.json      beside the store, and no part of it: which run is at work
                       00012.json    there while shard 12 is at work

A worker writes a mark before it begins a shard, and the mark is gone once the shard is committed. So a mark of the same
run that a worker finds says that somebody before it did not finish. A mark of another run says nothing: the user may
have killed that one. And a worker whose mark is gone, or another's, has been given up, and must not write.
"""

import json
import stat
import tempfile
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from .base import Store
from .checks import fit_fields, require_keys
from .errors import CacheError, CorruptStoreError
from .files import Files, FolderFiles, files_at, read_json
from .place import StorePath, absolute

_LONGEST = 1 << 20  # bytes of a mark
_RUN = "run.json"
NO_ROW = -1


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One mark. run: names the run; holder: names this attempt; tries: how often the run began the shard, with this
    time; row: the one at work, where rows are done one by one, else NO_ROW; blamed: rows at which earlier attempts
    ended. CacheError for a field of another type."""

    shard: int
    run: str
    holder: str
    tries: int
    row: int = NO_ROW
    blamed: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        fit_fields(self)


class Attempts:
    """The marks beside the store at `path`. Every use is a CacheError where a link, or no folder, is in their place."""

    def __init__(self, path: StorePath) -> None:
        place = absolute(path)
        place = place.with_name(place.name + ".attempts")
        self._place, self._at = place, FolderFiles(place) if isinstance(place, Path) else files_at(place)

    @property
    def _files(self) -> Files:
        """Checked each time: what a link leads to is not ours to write or to remove."""
        if isinstance(self._place, Path):
            with suppress(FileNotFoundError):
                if not stat.S_ISDIR(self._place.lstat().st_mode):
                    raise CacheError(f"{self._place} must be a folder of marks, and no link or file; remove it")
        return self._at

    def begin(self, shard: int, run: str) -> Attempt:
        """Mark a shard as begun by `run`; the mark tells what became of that run's earlier attempts."""
        tries, blamed = 1, tuple[int, ...]()
        before = self._found(shard)
        if before is not None and before.run == run:
            tries, blamed = before.tries + 1, before.blamed
            if before.row != NO_ROW:
                blamed = (*blamed, before.row)
        return self._put(Attempt(shard=shard, run=run, holder=uuid.uuid4().hex, tries=tries, blamed=blamed))

    def at_row(self, attempt: Attempt, row: int) -> Attempt:
        """Mark that `row` alone is at work."""
        return self._put(replace(attempt, row=row))

    def holds(self, attempt: Attempt) -> bool:
        """Whether the shard is still this attempt's: nobody began it since, and the run has not ended."""
        found = self._found(attempt.shard)
        return found is not None and found.holder == attempt.holder

    def suspected(self, shard: int) -> set[int]:
        """Rows of a shard, done one by one, that attempts ended at, or that the present one is at."""
        found = self._found(shard)
        return set() if found is None else {*found.blamed, found.row} - {NO_ROW}

    def end(self, attempt: Attempt) -> None:
        """The shard is committed."""
        self._files.remove(_name(attempt.shard))

    def open_run(self, run: str) -> None:
        """Begin a run: whoever still works for another one gives up. For the store's one writer."""
        self.clear()
        self._write(_RUN, {"run": run})

    def close_run(self, run: str) -> None:
        """End a run: whoever still works for it gives up. The marks of another, which has the store now, stay.

        Called again it removes what workers marked before they saw it.
        """
        if self._read(_RUN) in (None, {"run": run}):
            self.clear()

    def is_open(self, run: str) -> bool:
        """Whether that run is at work on this very store, and no copy of it."""
        return self._read(_RUN) == {"run": run}

    def _put(self, attempt: Attempt) -> Attempt:
        self._write(_name(attempt.shard), asdict(attempt))
        return attempt

    def _found(self, shard: int) -> Attempt | None:
        """The mark of a shard; None where there is none, and for a damaged one."""
        value = self._read(_name(shard))
        try:
            known = (field.name for field in fields(Attempt))
            return Attempt(**require_keys(value, known, "the mark"))
        except CacheError:
            return None

    def probe(self) -> None:
        """Write and remove a mark of no meaning: whether this process may write beside the store."""
        name = f"probe-{uuid.uuid4().hex}.json"
        self._write(name, None)
        self._files.remove(name)

    def clear(self) -> None:
        """Remove all marks, of whatever run: whoever still works on a shard gives up. For the store's one writer."""
        self._files.clear()

    def _read(self, name: str) -> Any:
        """The JSON value of a mark, None where there is none."""
        files = self._files
        try:
            return read_json(files, name, limit=_LONGEST)
        except (FileNotFoundError, NotADirectoryError, CorruptStoreError):
            return None

    def _write(self, name: str, value: Any) -> None:
        self._files.write(name, [json.dumps(value).encode()])


def try_writing(store: Store) -> None:
    """Write and remove a small file where shards go; OSError or CacheError where this process may not."""
    place = store.shard_path(0)
    if isinstance(place, Path):
        with tempfile.TemporaryFile(dir=place.parent) as stream:
            stream.write(b"x")
    else:
        Attempts(store.path).probe()


def _name(shard: int) -> str:
    return f"{shard:05d}.json"
