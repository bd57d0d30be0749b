"""From Zarr to HDF5 and back: every cube, index entry and record, bit for bit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .base import Store
from .errors import CorruptStoreError
from .index import DONE
from .record import ShardRecord
from .staging import staged
from .store import open_store, store_class
from .writing import prepare_shard, row_digest


def convert_store(
    source: Path, target: Path, *, compress: str = "", advance: Callable[[int], None] | None = None
) -> Store:
    """Copy a store into the format of `target`'s suffix, and open the copy; it appears whole or not at all.

    Header, index, digests, generations, reasons, notes and the finding on pretraining labels stay; an extraction
    continues in the copy where it stood in the source. compress: of the copy, '' or 'zstd' (.zarr alone). advance:
    called with the rows of each shard.
    Raises CacheError when `target` exists, CorruptStoreError naming a row whose bytes do not match its checksum.
    """
    source, target = Path(source), Path(target)
    old = open_store(source)
    kind = store_class(target)
    with staged(target, kind.parts) as staging:
        kind.create(staging, replace(old.header, compress=compress), old.index)
        new = kind.open(staging)
        for shard in range(old.n_shards):
            record = old.record(shard)
            if record is not None:
                _copy_shard(old, new, record)
            if advance is not None:
                advance(len(old.shard_range(shard)))
        overlap = old.label_overlap()
        if overlap is not None:
            new.write_label_overlap(overlap)
    return kind.open(target)


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
