"""What every kind of store is: rows in shards, records that vouch for them, cubes read from shard files."""

import resource
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .errors import CacheError, CorruptStoreError, MissingRowsError
from .files import Files
from .index import DONE, MISSING, STATE_NAMES, VideoIndex
from .label_overlap import LabelOverlap, read_overlap, write_overlap
from .ledger import Ledger
from .place import ObjectUrl, StorePath
from .record import ShardRecord, StoreHeader
from .shard_file import ShardFile
from .spec import FeatureSpec
from .writing import make_record, prepare_shard


class Store(ABC):
    """An open store. Reading is safe while one writer adds shards: a row is there once its record is.

    Nothing stays open but memory maps of shard files, so a store may be used by forked workers and threads;
    pickling it opens it again by its path. Writers hold `writer_lock`. Files of the store are only trusted after
    checks, and never through links: it may come from a stranger.
    """

    parts: ClassVar[tuple[str, ...]]  # the paths that make a store, as its name + each; the last one is opened
    _overlap_file: ClassVar[str]  # where the finding on pretraining labels is, by its name among the store's files

    def __init__(self, path: StorePath, header: StoreHeader, index: VideoIndex, files: Files) -> None:
        self.path, self.header, self.index = path, header, index
        self._files = files
        self._open: OrderedDict[int, ShardFile] = OrderedDict()
        shards = range(self.n_shards)
        self._ledger = self._make_ledger(files, [self.shard_range(shard) for shard in shards])
        self._ledger.refresh()

    @classmethod
    @abstractmethod
    def create(cls, path: Path, header: StoreHeader, index: VideoIndex) -> None:
        """Make the files of a store without shards at `path`."""

    @classmethod
    @abstractmethod
    def open(cls, path: StorePath) -> "Store":
        """Open the store at an existing `path`; CorruptStoreError when it is none."""

    @abstractmethod
    def _make_ledger(self, files: Files, rows: list[range]) -> Ledger: ...

    @abstractmethod
    def _shard_name(self, shard: int) -> str: ...

    @abstractmethod
    def _encode(self, cubes: NDArray[np.float16]) -> list[bytes | memoryview]:
        """The bytes of a shard file, in pieces, of cubes [r, views, c, t, h, w]."""

    @abstractmethod
    def _open_shard(self, name: str, shape: tuple[int, ...]) -> ShardFile:
        """Open a shard file of `shape` [r, views, c, t, h, w]; CorruptStoreError, or FileNotFoundError."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path}, {self.index!r}, cubes {list(self.spec.row_shape)})"

    def __reduce__(self) -> tuple[Any, ...]:
        from .store import open_store

        return open_store, (self.path,)

    @property
    def spec(self) -> FeatureSpec:
        return self.header.spec

    @property
    def n_shards(self) -> int:
        return -(-len(self.index) // self.header.shard_rows)

    @property
    def is_remote(self) -> bool:
        """Whether it is in object storage."""
        return isinstance(self.path, ObjectUrl)

    @property
    def can_be_mapped(self) -> bool:
        """Whether its shards can be memory-mapped: files of a disk, not compressed."""
        return not self.is_remote and not self.header.compress

    @cached_property
    def digest(self) -> str:
        """sha256 (hex) of recipe, split scheme and ordered keys."""
        return self.spec.store(self.header.split_scheme, self.index.keys)

    def shard_range(self, shard: int) -> range:
        """The rows of a shard. CacheError when there is no such shard."""
        if not 0 <= shard < self.n_shards:
            raise CacheError(f"shard ({shard}) must be from 0 to {self.n_shards - 1}")
        start = shard * self.header.shard_rows
        return range(start, min(start + self.header.shard_rows, len(self.index)))

    def shard_path(self, shard: int) -> StorePath:
        """Where the file of a shard is, or will be."""
        return self._files.where(self._shard_name(shard))

    def rows_of(self, split: str) -> NDArray[np.int64]:
        """Rows of a split in any state, rising: int64 [m]."""
        return np.array([row for row, name in enumerate(self.index.splits) if name == split], np.int64)

    # Records: the only truth about which rows are done.

    def refresh(self) -> None:
        """Look for records that were written since."""
        for shard in self._ledger.refresh():
            self._open.pop(shard, None)

    def record(self, shard: int) -> ShardRecord | None:
        """The record of a shard, None when it was not written yet; CorruptStoreError when it is damaged."""
        self.shard_range(shard)
        return self._ledger.get(shard)

    def records(self) -> Iterator[ShardRecord]:
        """The records there are, in the order of shards; CorruptStoreError at a damaged one."""
        for shard in range(self.n_shards):
            record = self._ledger.get(shard)
            if record is not None:
                yield record

    def states(self) -> NDArray[np.uint8]:
        """MISSING, DONE or FAILED for every row: uint8 [n]. CorruptStoreError when a record is damaged."""
        states = np.full(len(self.index), MISSING, np.uint8)
        for record in self.records():
            states[record.start : record.stop] = record.states
        return states

    def reasons(self) -> dict[int, str]:
        """Why each failed row failed."""
        return {row: reason for record in self.records() for row, reason in record.reasons.items()}

    def seen(self) -> dict[int, str]:
        """The state that the video of a failed row was in, where it could be read at all."""
        return {row: state for record in self.records() for row, state in record.seen.items()}

    def notes(self) -> dict[int, str]:
        """What users of a row should know, for the rows that have such a note."""
        return {row: note for record in self.records() for row, note in record.notes.items()}

    # What was found out about the weights.

    def label_overlap(self) -> LabelOverlap | None:
        """Which test classes the weights were pretrained on, by name; None where nobody looked (--labels).

        CorruptStoreError when the finding is damaged.
        """
        tested = self.index.classes_of("test")
        return read_overlap(self._files, self._overlap_file, classes=tested, unwrap=self._ledger.unwrap)

    def write_label_overlap(self, overlap: LabelOverlap) -> None:
        """Put a finding in place of the one before, whole or not at all; for the store's one writer."""
        write_overlap(self._files, self._overlap_file, overlap, wrap=self._ledger.wrap)

    # Cubes.

    def open_shard(self, shard: int) -> ShardFile:
        """The file of a shard, whatever its record says.

        MissingRowsError when it was not written yet; CorruptStoreError when it is cut off, damaged, or gone though
        it has a record.
        """
        kept = self._open.pop(shard, None)  # threads may ask for one shard at once
        if kept is not None:
            self._open[shard] = kept
            return kept
        rows = self.shard_range(shard)
        try:
            opened = self._open_shard(self._shard_name(shard), (len(rows), *self.spec.row_shape))
        except FileNotFoundError as error:
            if self._ledger.get(shard) is None:
                raise MissingRowsError(f"shard {shard} of {self.path} is not extracted yet; run it again") from error
            raise CorruptStoreError(
                f"the file of shard {shard} ({self.shard_path(shard)}) is gone; delete its record, and extract again"
            ) from error
        except CorruptStoreError as error:
            raise CorruptStoreError(f"the file of shard {shard} ({self.shard_path(shard)}): {error}") from error
        self._open[shard] = opened
        while len(self._open) > _most_maps():
            with suppress(KeyError):
                self._open.popitem(last=False)
        return opened

    def release(self, shard: int) -> None:
        """Let go of a shard's file: its memory map ends when nobody looks at it any more."""
        self._open.pop(shard, None)

    def mapped(self, shard: int) -> NDArray[np.float16] | None:
        """A read-only memory map of a shard, float16 [r, views, c, t, h, w], or None unless `can_be_mapped`.

        Errors as `open_shard`, and CorruptStoreError for a shard that another program wrote in another order. A map
        keeps a file descriptor before Python 3.13: whoever holds many shards' maps minds the limit on open files.
        """
        cubes = self.open_shard(shard).cubes
        if cubes is None and self.can_be_mapped:
            raise CorruptStoreError(
                f"the file of shard {shard} ({self.shard_path(shard)}) has its cubes in another order than mastaf "
                "writes, so it cannot be mapped; copy the store with mastaf-cache convert"
            )
        return cubes

    def read_shard(self, shard: int) -> NDArray[np.float16]:
        """A copy of what a shard's file holds, float16 [r, views, c, t, h, w]: zeros in rows that failed."""
        return self.open_shard(shard).read()

    def read(self, rows: Sequence[int] | NDArray[np.integer], view: int = 0) -> NDArray[np.float16]:
        """The cubes of `rows` in the order given: float16 [m, c, t, h, w]. MissingRowsError unless all are done."""
        wanted = np.asarray(rows, np.int64).reshape(-1)  # [m]
        n, views = len(self.index), len(self.spec.views)
        if not 0 <= view < views:
            raise CacheError(f"view ({view}) must be from 0 to {views - 1}")
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < n):
            raise CacheError(f"rows ({wanted.min()} to {wanted.max()}) must be from 0 to {n - 1}")
        shards, slots = np.divmod(wanted, self.header.shard_rows)
        self._require_done(wanted, shards, slots)
        out = np.empty((len(wanted), *self.spec.cube_shape), "<f2")

        def fill(place: int) -> None:
            self.open_shard(int(shards[place])).read_into(int(slots[place]), view, out[place])

        for _ in self._files.each(fill, np.argsort(shards, kind="stable").tolist()):
            pass
        return out

    def _require_done(self, rows: NDArray[np.int64], shards: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        records = {int(shard): self._ledger.get(int(shard)) for shard in np.unique(shards)}
        for row, shard, slot in zip(rows.tolist(), shards.tolist(), slots.tolist(), strict=True):
            record = records[shard]
            state = MISSING if record is None else record.states[slot]
            if state != DONE:
                raise MissingRowsError(
                    f"'{self.index.keys[row]}' (row {row}) of {self.path} is {STATE_NAMES[state]}, and has no cube; "
                    "finish the extraction, or leave it out"
                )

    # Writing.

    def write_shard(
        self,
        shard: int,
        cubes: NDArray[np.float16],
        *,
        states: Sequence[int] | NDArray[np.integer],
        reasons: Mapping[int, str],
        notes: Mapping[int, str],
        device: str,
        seen: Mapping[int, str] | None = None,
    ) -> ShardRecord:
        """Write a shard, or its next generation: the file first, whole or not at all, then its record.

        cubes: float16 [r, views, c, t, h, w]; states: r of them; reasons: row number (over the whole store) ->
        reason, one for each failed row; notes: likewise, for any row; seen: likewise, the state that the video of a
        failed row was in. A row that is done must keep its bits.
        Raises CacheError for cubes or states that do not fit, StoppedError when the disk is full.
        """
        rows = self.shard_range(shard)
        cubes = prepare_shard(cubes, shape=(len(rows), *self.spec.row_shape), states=states)
        self.refresh()
        record = make_record(
            cubes,
            shard=shard,
            rows=rows,
            states=states,
            reasons=reasons,
            notes=notes,
            device=device,
            previous=self.record(shard),
            seen=seen,
        )
        self.commit(record, cubes)
        return record

    def commit(self, record: ShardRecord, cubes: NDArray[np.float16]) -> None:
        """Put a shard's file, then its record in place. `write_shard` makes the record; copying a store keeps it."""
        self._files.write(self._shard_name(record.shard), self._encode(cubes))
        self._open.pop(record.shard, None)
        self._ledger.put(record)


def _most_maps() -> int:
    # Each map costs a descriptor before Python 3.13; half of them are left for everything else.
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(8, soft // 2)
