"""The records of all shards of a store, read again when their files change."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from .checks import brief, json_text
from .errors import CorruptStoreError, StoppedError
from .files import Files, read_json
from .record import ShardRecord

# What the two formats have between a record and its file: a Zarr group's document around it, or nothing.
Wrap = Callable[[Any], Any]


class Ledger:
    """Records by shard. A damaged one is an error for whoever asks for that shard, and for no other.

    files: where the records are; names: file of each shard's record; rows: the rows of each shard; wrap, unwrap:
    record <-> JSON document of its file.
    """

    def __init__(self, files: Files, names: list[str], rows: list[range], *, wrap: Wrap, unwrap: Wrap) -> None:
        self._files, self._names, self._rows = files, names, rows
        self.wrap, self.unwrap = wrap, unwrap
        self._stamps: list[Hashable] = [None] * len(names)
        self._records: list[ShardRecord | CorruptStoreError | None] = [None] * len(names)

    def __len__(self) -> int:
        return len(self._names)

    def refresh(self) -> list[int]:
        """Read the records whose files changed; returns those shards."""
        return self._refresh(range(len(self)))

    def get(self, shard: int) -> ShardRecord | None:
        """The record of a shard as last read, None when there is none; CorruptStoreError when it is damaged."""
        record = self._records[shard]
        if isinstance(record, CorruptStoreError):
            raise CorruptStoreError(str(record))
        return record

    def put(self, record: ShardRecord) -> None:
        """Write a record, whole or not at all."""
        self._files.write(self._names[record.shard], [json_text(self.wrap(record.to_json()))])
        self._refresh([record.shard])

    def _refresh(self, shards: Sequence[int]) -> list[int]:
        stamps = self._files.stamps([self._names[shard] for shard in shards])
        changed = [(shard, s) for shard, s in zip(shards, stamps, strict=True) if s != self._stamps[shard]]
        for (shard, stamp), record in zip(changed, self._files.each(self._read, [c[0] for c in changed]), strict=True):
            self._stamps[shard], self._records[shard] = stamp, record
        return [shard for shard, _ in changed]

    def _read(self, shard: int) -> ShardRecord | CorruptStoreError | None:
        rows, name = self._rows[shard], self._names[shard]
        try:
            document = read_json(self._files, name, limit=(1 << 16) + (1 << 13) * len(rows))
            return ShardRecord.from_json(self.unwrap(document), shard=shard, rows=rows)
        except FileNotFoundError:
            return None
        except StoppedError:
            raise
        except (CorruptStoreError, OSError) as error:
            return CorruptStoreError(
                f"the record of shard {shard} ({self._files.where(name)}) is damaged: {brief(error, 200)}; "
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
