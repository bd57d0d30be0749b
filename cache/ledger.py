"""The records of all shards of a store, read again when their files change."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .atomic import remove_leftovers, write_json
from .checks import brief
from .errors import CorruptStoreError
from .plain_files import read_json
from .record import ShardRecord

# What the two formats have between a record and its file: a Zarr group's document around it, or nothing.
Wrap = Callable[[Any], Any]


class Ledger:
    """Records by shard. A damaged one is an error for whoever asks for that shard, and for no other.

    folder: resolved folder that holds the records; names: file of each shard's record, relative to it; rows: the
    rows of each shard; wrap, unwrap: record <-> JSON document of its file.
    """

    def __init__(self, folder: Path, names: list[str], rows: list[range], *, wrap: Wrap, unwrap: Wrap) -> None:
        self._folder, self._names, self._rows = folder, names, rows
        self.wrap, self.unwrap = wrap, unwrap
        self._stamps: list[tuple[int, int, int] | None] = [None] * len(names)
        self._records: list[ShardRecord | CorruptStoreError | None] = [None] * len(names)

    def __len__(self) -> int:
        return len(self._names)

    def refresh(self) -> list[int]:
        """Read the records whose files changed; returns those shards."""
        return [shard for shard in range(len(self)) if self._refresh(shard)]

    def get(self, shard: int) -> ShardRecord | None:
        """The record of a shard as last read, None when there is none; CorruptStoreError when it is damaged."""
        record = self._records[shard]
        if isinstance(record, CorruptStoreError):
            raise CorruptStoreError(str(record))
        return record

    def put(self, record: ShardRecord) -> None:
        """Write a record, whole or not at all."""
        path = self._folder / self._names[record.shard]
        path.parent.mkdir(exist_ok=True)
        remove_leftovers(path)
        write_json(path, self.wrap(record.to_json()))
        self._refresh(record.shard)

    def _refresh(self, shard: int) -> bool:
        stamp = self._stamp(shard)
        if stamp == self._stamps[shard]:
            return False
        self._stamps[shard], self._records[shard] = stamp, self._read(shard)
        return True

    def _stamp(self, shard: int) -> tuple[int, int, int] | None:
        try:
            found = os.lstat(self._folder / self._names[shard])
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self, shard: int) -> ShardRecord | CorruptStoreError | None:
        rows, name = self._rows[shard], self._names[shard]
        try:
            document = read_json(self._folder, name, limit=(1 << 16) + (1 << 13) * len(rows))
            return ShardRecord.from_json(self.unwrap(document), shard=shard, rows=rows)
        except FileNotFoundError:
            return None
        except (CorruptStoreError, OSError) as error:
            return CorruptStoreError(
                f"the record of shard {shard} ({self._folder / name}) is damaged: {brief(error, 200)}; "
                "delete that file and run the extraction again"
            )


def unwrap_zarr(document: Any) -> Any:
    """The attributes of a Zarr group's `zarr.json`."""
    if not isinstance(document, Mapping) or "attributes" not in document:
        raise CorruptStoreError("it is no zarr.json with attributes")
    return document["attributes"]


def wrap_zarr(record: Any) -> dict[str, Any]:
    """The `zarr.json` of a group without members of its own."""
    return {"zarr_format": 3, "node_type": "group", "attributes": record}
