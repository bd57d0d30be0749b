"""Making the store of a run, or opening the one that an earlier run left, if it is of the same cubes."""

from collections.abc import Sequence

from ...cache.index import VideoIndex
from ...cache.place import StorePath
from ...cache.record import StoreHeader
from ...cache.store import Store, create_store, open_store
from ..datasets.naming import some
from ..errors import ExtractError
from ..machines.devices import kinds_of

_REMEDY = "pass another --out, or bring the data set back to what it was"


def open_or_create(path: StorePath, *, header: StoreHeader, index: VideoIndex) -> Store:
    """The store at `path`, made if there is none. The caller holds its `writer_lock`.

    An existing one keeps its own batch, threads, shard rows and compression. SpecMismatchError or ExtractError,
    naming what differs, when it is of other cubes or other videos.
    """
    make = open_checked if path.exists() else create_store
    return make(path, header=header, index=index)


def open_checked(path: StorePath, *, header: StoreHeader, index: VideoIndex) -> Store:
    """The existing store at `path`, if it is of the cubes of `header` and the videos of `index`. Errors as above."""
    store = open_store(path)
    store.spec.require_equal(header.spec, here=f"store {path}", there="this run")
    _require_same_videos(store, header, index)
    return store


def require_same_device(store: Store, devices: Sequence[str]) -> None:
    """ExtractError when shards of the store were computed on another kind of device than one of `devices` (as records
    name them): their last bits would differ."""
    kinds = kinds_of(devices)
    if len(kinds) > 1:
        raise ExtractError(
            f"devices ({', '.join(devices)}) must be of one kind, because their cubes differ in their last bits; pass "
            "--allow-mixed-devices, or devices of one kind"
        )
    for record in store.records():
        if kinds_of([record.device]) != kinds:
            raise ExtractError(
                f"{store.path} was computed on {record.device}, and this run is on {devices[0]}, whose cubes differ in "
                "their last bits; pass the same --devices, --allow-mixed-devices, or another --out"
            )


def require_same_layout(stores: Sequence[Store]) -> None:
    """ExtractError unless stores that are filled in one pass have the same shards and batches, on which bits depend."""
    first = stores[0]
    for other in stores[1:]:
        for what in ("shard_rows", "batch", "threads"):
            here, there = getattr(first.header, what), getattr(other.header, what)
            if here != there:
                raise ExtractError(
                    f"{what} of {first.path} ({here}) and {other.path} ({there}) must be equal for one pass: they were "
                    "begun by different commands; finish each with --layer NAME --out STORE"
                )


def require_same_labels(store: Store, split_scheme: str, index: VideoIndex) -> None:
    """ExtractError when videos that both have are of another class or split, or the splits have other names."""
    _require_same_scheme(store, split_scheme)
    rows = {key: row for row, key in enumerate(index.keys)}
    for what in ("classes", "splits"):
        for key, old in zip(store.index.keys, getattr(store.index, what), strict=True):
            new = getattr(index, what)[rows[key]] if key in rows else old
            if old != new:
                raise ExtractError(f"'{key}' is '{old}' in {store.path}, but '{new}' in this run ({what}); {_REMEDY}")


def _require_same_scheme(store: Store, split_scheme: str) -> None:
    if store.header.split_scheme != split_scheme:
        raise ExtractError(
            f"{store.path} follows the split {store.header.split_scheme}, and this run {split_scheme}; {_REMEDY}"
        )


def _require_same_videos(store: Store, header: StoreHeader, index: VideoIndex) -> None:
    _require_same_scheme(store, header.split_scheme)
    if store.index.keys != index.keys:
        raise ExtractError(
            f"{store.path} was made of other videos: {_differing(store.index.keys, index.keys)}; {_REMEDY}"
        )
    was, now = (about.provenance.get("follow_links", False) for about in (store.header, header))
    if was != now:
        raise ExtractError(
            f"{store.path} was begun {'with' if was else 'without'} --follow-links, as it says of itself; do the same "
            "again, or pass another --out"
        )
    require_same_labels(store, header.split_scheme, index)


def _differing(old: Sequence[str], new: Sequence[str]) -> str:
    had, has = set(old), set(new)
    added = [key for key in new if key not in had]
    gone = [key for key in old if key not in has]
    parts = [f"{len(keys)} {what} ({some(keys, 3)})" for what, keys in (("are new", added), ("are gone", gone)) if keys]
    return ", ".join(parts) or "they stand in another order"
