"""From Zarr to HDF5 and back: every cube, index entry and record, bit for bit."""

from collections.abc import Callable
from dataclasses import replace

from .base import Store
from .errors import CacheError, CorruptStoreError
from .index import DONE
from .place import ObjectUrl, StorePath, store_path
from .record import ShardRecord, StoreHeader
from .staging import staged
from .store import create_store, open_store, store_class
from .writing import prepare_shard, row_digest


def convert_store(
    source: str | StorePath,
    target: str | StorePath,
    *,
    compress: str = "",
    advance: Callable[[int], None] | None = None,
) -> Store:
    """Copy a store into the format of `target`'s suffix, and open the copy.

    On a disk it appears whole or not at all. In object storage, where nothing can be renamed, a copy that was stopped
    is an unfinished store, and the same call finishes it.

    Header, index, digests, generations, reasons, notes and the finding on pretraining labels stay; an extraction
    continues in the copy where it stood in the source. compress: of the copy, '' or 'zstd' (.zarr alone). advance:
    called with the rows of each shard.
    Raises CacheError when `target` exists, CorruptStoreError naming a row whose bytes do not match its checksum.
    """
    old, target = open_store(source), store_path(target)
    kind, header = store_class(target), replace(old.header, compress=compress)
    if isinstance(target, ObjectUrl):
        _fill(old, _begun(target, header, old), advance)
        return kind.open(target)
    with staged(target, kind.parts) as staging:
        kind.create(staging, header, old.index)
        _fill(old, kind.open(staging), advance)
    return kind.open(target)


def _begun(target: ObjectUrl, header: StoreHeader, old: Store) -> Store:
    """The store at `target`, new or as an earlier copy of the same store left it."""
    if not target.exists():
        return create_store(target, header=header, index=old.index)
    new = open_store(target)
    same = new.header == header and new.index == old.index
    if not same or any(record != old.record(record.shard) for record in new.records()):
        raise CacheError(f"{target} exists already, and is no begun copy of {old.path}; name another, or remove it")
    return new


def _fill(old: Store, new: Store, advance: Callable[[int], None] | None) -> None:
    """Copy the shards that `new` lacks, and the finding on labels."""
    for shard in range(old.n_shards):
        record = old.record(shard)
        if record is not None and new.record(shard) is None:
            _copy_shard(old, new, record)
        if advance is not None:
            advance(len(old.shard_range(shard)))
    overlap = old.label_overlap()
    if overlap is not None:
        new.write_label_overlap(overlap)


def _copy_shard(old: Store, new: Store, record: ShardRecord) -> None:
    cubes = old.read_shard(record.shard)  # [r, views, c, t, h, w]
    for slot, (state, digest) in enumerate(zip(record.states, record.sha256, strict=True)):
        if state == DONE and row_digest(cubes[slot]) != digest:
            key = old.index.keys[record.start + slot]
            raise CorruptStoreError(
                f"'{key}' (row {record.start + slot}) of {old.path} is damaged; run mastaf-cache verify {old.path}"
            )
    # A run killed between a shard's file and its record leaves rows in the file that no record knows of.
    new.commit(record, prepare_shard(cubes, shape=cubes.shape, states=record.states))
