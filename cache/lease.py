"""The lock of a store in object storage: `<store>.lock`, an object that its holder renews while it is alive.

It is written by conditional puts alone: a new one only where none is, any other only in place of the very object that
was read (its ETag). So of two processes that want it one gets it, and whoever lost it learns so. Given back, it stays
as an object that says so, because deleting has no such condition. A holder that this machine can check counts as gone
at once; another's lease ends when it was not renewed for a while: by the clocks, and then watched, because clocks err.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .bucket import bucket_client, explained
from .checks import json_text, parse_json
from .errors import CacheError, StoppedError
from .held import held_lock
from .holder import ALIVE, GONE, MAX_RECORD, UNKNOWN, Holder
from .lease_renewal import Renewal
from .place import ObjectUrl

RENEW_S = 15.0
EXPIRES = 4  # renewals missed by the clocks
WATCHED = 2  # and then renewals awaited by whoever wants it
_FREE = b'{"released": true}\n'


@contextmanager
def lease(url: ObjectUrl) -> Iterator[None]:
    """Hold `<url>.lock` while the block runs, renewing it.

    StoppedError, naming the holder, when another process holds it, or when it is lost: then the block is interrupted.
    CacheError where the bucket or the rights lack.
    """
    held = _Lease(lease_url(url))
    held.take(url)
    renewal = Renewal(held.renew, every=RENEW_S, patience=EXPIRES * RENEW_S)

    def lost() -> str:
        return f"the lease of {url} was lost ({renewal.lost}); run the same command again" if renewal.lost else ""

    try:
        with held_lock(url, lost), renewal:
            yield
    except KeyboardInterrupt:
        if renewal.lost:
            raise StoppedError(lost()) from None
        raise
    finally:
        if not renewal.lost:
            with suppress(CacheError, OSError):  # what cannot be given back now ends by itself
                held.give_back()
    if renewal.lost:
        raise StoppedError(lost())


def unlock_lease(url: ObjectUrl, *, force: bool) -> str:
    """As `store.unlock`, for a store in object storage."""
    found = _Lease(lease_url(url)).look()
    if found is None or found.free:
        return f"{url} is not locked"
    if found.state == ALIVE:
        raise StoppedError(f"{url} is being written by {found.who}; stop that process, or wait for it")
    if found.state == UNKNOWN and not found.expired and not force:
        raise CacheError(
            f"{url} is locked by {found.who}, which cannot be checked from here, and renewed it {found.age:.0f} s ago; "
            f"make sure that it is gone, then: mastaf-cache unlock --force {url}"
        )
    if not _Lease(lease_url(url)).put(_FREE, instead_of=found.tag):
        raise StoppedError(f"the lock of {url} changed meanwhile: its holder is alive, or another took it over")
    why = "is gone" if found.state == GONE else f"last renewed it {found.age:.0f} s ago, and was not checked"
    return f"removed the lock of {url}: {found.who}, {why}"


def lease_url(url: ObjectUrl) -> ObjectUrl:
    """Where the lease of a store is."""
    return url.with_name(url.name + ".lock")


@dataclass(frozen=True)
class _Found:
    """A lease as it was read. who: its holder, in words; state: of the holder; age: seconds since it was renewed."""

    tag: str
    token: str
    who: str
    state: str
    age: float
    free: bool

    @property
    def expired(self) -> bool:
        return self.age > EXPIRES * RENEW_S


class _Lease:
    """The lease object at `url`, and what this process last wrote there."""

    def __init__(self, url: ObjectUrl) -> None:
        self._url, self._client = url, bucket_client(url)
        self._holder = Holder.here()
        self._tag: str | None = None
        self._count = 0

    def take(self, store: ObjectUrl) -> None:
        """Become the holder; StoppedError when another process is, or may be."""
        while not self.put(self._record(), instead_of=None):
            found = self.look()
            if found is None:
                continue
            if found.token == self._holder.token:  # the first put arrived, and its answer was lost
                self._tag = found.tag
                return
            if not found.free and found.state != GONE:
                self._require_expired(found, store)
            if self.put(self._record(), instead_of=found.tag):
                return

    def _require_expired(self, found: _Found, store: ObjectUrl) -> None:
        """StoppedError unless the lease found is not renewed any more."""
        if found.state == UNKNOWN and found.expired:
            time.sleep(WATCHED * RENEW_S)
            now = self.look()
            if now is not None and now.tag == found.tag:
                return
        raise StoppedError(
            f"another process is writing {store}: {found.who}; wait for it, stop it, or use another path (a dead one's "
            f"lock is taken over {EXPIRES * RENEW_S:.0f} s after its last renewal, or by mastaf-cache unlock)"
        )

    def look(self) -> _Found | None:
        """The lease as it is now, None where none was ever taken."""
        try:
            with explained(self._url):
                got = self._client.get(self._url.key)
                meta = got.meta
                data = bytes(got.bytes()) if meta["size"] <= MAX_RECORD else b""
        except FileNotFoundError:
            return None
        age = (datetime.now(UTC) - meta["last_modified"]).total_seconds()
        tag = meta["e_tag"] or ""
        if data == _FREE:
            return _Found(tag, "", "nobody", GONE, age, free=True)
        try:
            document = parse_json(data, "the lock")
            holder = Holder.from_json(document.get("holder") if isinstance(document, dict) else None)
        except CacheError:
            return _Found(tag, "", "a process that left no readable record", UNKNOWN, age, free=False)
        return _Found(tag, holder.token, str(holder), holder.state(lock_is_free=False), age, free=False)

    def renew(self) -> str:
        """Say that this process is alive: '' when the lease still was ours, else who has it."""
        if self.put(self._record(), instead_of=self._tag):
            return ""
        found = self.look()
        if found is not None and found.token == self._holder.token:  # as in `take`
            self._tag = found.tag
            return ""
        return "it was removed" if found is None or found.free else f"taken over by {found.who}"

    def give_back(self) -> None:
        """Free the lease, if it still is ours."""
        self.put(_FREE, instead_of=self._tag)

    def put(self, data: bytes, *, instead_of: str | None) -> bool:
        """Write where no lease is, or in place of that with a tag; False when it is not so."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if instead_of is None else {"e_tag": instead_of}
        try:
            with explained(self._url):
                done = self._client.put(self._url.key, data, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return False
        self._tag = done["e_tag"]
        return True

    def _record(self) -> bytes:
        # Each renewal must be another object, or its tag would not change.
        self._count += 1
        return json_text({"holder": self._holder.to_json(), "renewal": self._count})
