"""The files of a store in object storage: each is one object, put by one request, so it is whole or not there."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from .bucket import bucket_client, explained
from .errors import CorruptStoreError, StoppedError
from .held import require_held
from .place import ObjectUrl

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store

Item = TypeVar("Item")
Result = TypeVar("Result")
_AT_ONCE = 16  # small requests under way
# A listing of more objects than a store of that many shards may have is a stranger's.
_STRAY_OBJECTS = 10_000


class BucketFiles:
    """Files below an address; see Files."""

    def __init__(self, url: ObjectUrl) -> None:
        self._url, self._client = url, bucket_client(url)

    def where(self, name: str) -> ObjectUrl:
        """See Files."""
        return self._url / name

    def exists(self, name: str) -> bool:
        """Whether there is such an object. CacheError when there is no such bucket."""
        url = self.where(name)
        try:
            with explained(url):  # HEAD would not tell a missing bucket from a missing object
                self._client.get(url.key)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str, *, limit: int) -> bytes:
        """See Files."""
        url = self.where(name)
        with explained(url):
            found = self._client.get(url.key)
            if found.meta["size"] > limit:
                raise CorruptStoreError(f"{url} must be at most {limit} bytes; this is no store of mastaf")
            return bytes(found.bytes())

    def content(self, name: str, *, tail: int, limit: int) -> "ObjectContent":
        """See Files."""
        url = self.where(name)
        try:
            with explained(url):
                found = self._client.get(url.key, options={"range": {"suffix": tail}})
        except StoppedError:
            self._require_bytes(url, tail)  # for less, servers have answers of many kinds
            raise
        with explained(url):
            size, tag = found.meta["size"], found.meta["e_tag"]
            if size > limit:
                raise CorruptStoreError(f"it has {size} bytes, and must have at most {limit}")
            end = np.frombuffer(memoryview(found.bytes()), np.uint8)  # [tail]
        return ObjectContent(self._client, url, size=size, tag=tag, end=end)

    def _require_bytes(self, url: ObjectUrl, least: int) -> None:
        with explained(url):
            size = self._client.head(url.key)["size"]
        if size < least:
            raise CorruptStoreError(f"it is cut off: {size} bytes of at least {least}")

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> None:
        """See Files."""
        url = self.where(name)
        data = b"".join(parts)
        require_held(self._url)
        with explained(url):
            self._client.put(url.key, data, use_multipart=False)

    def remove(self, name: str) -> None:
        """See Files."""
        url = self.where(name)
        with explained(url), suppress(FileNotFoundError):
            self._client.delete(url.key)

    def clear(self) -> None:
        """See Files."""
        keys = [key for key, _, _ in self.listing(f"{self._url.key}/", most=_STRAY_OBJECTS)]
        with explained(self._url), suppress(FileNotFoundError):
            if keys:
                self._client.delete(keys)

    def sizes(self, *, most: int) -> list[int]:
        """Bytes of each object; errors as `listing`."""
        return [size for _, _, size in self.listing(f"{self._url.key}/", most=most + _STRAY_OBJECTS)]

    def stamps(self, names: Sequence[str]) -> list[Hashable]:
        """See Files: one listing of the folder that all `names` are in."""
        prefix = f"{self._url.key}/{names[0].split('/')[0]}/" if names else ""
        found = {key: (tag, size) for key, tag, size in self.listing(prefix, most=2 * len(names) + _STRAY_OBJECTS)}
        return [found.get(self.where(name).key) for name in names]

    def listing(self, prefix: str, *, most: int) -> Iterator[tuple[str, str | None, int]]:
        """(key, tag, size) of each object whose key begins with `prefix`; CorruptStoreError beyond `most`."""
        count = 0
        with explained(self._url):
            for chunk in self._client.list(prefix):
                count += len(chunk)
                if count > most:
                    raise CorruptStoreError(f"{self._url} has more than {most} objects; this is no store of mastaf")
                yield from ((meta["path"], meta["e_tag"], meta["size"]) for meta in chunk)

    def each(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """See Files."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(function, items)


class ObjectContent:
    """The bytes of one object as it was when it was opened; see Content. end: its last bytes."""

    def __init__(
        self, client: "S3Store", url: ObjectUrl, *, size: int, tag: str | None, end: NDArray[np.uint8]
    ) -> None:
        self._client, self._url, self._size, self._tag, self._end = client, url, size, tag, end

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]:
        start, stop, _ = part.indices(self._size)
        known = self._size - len(self._end)
        if start >= known or stop <= start:
            return self._end[start - known : max(start, stop) - known]
        return self._get(start, stop)

    def whole(self) -> NDArray[np.uint8]:
        """See Content: one request."""
        return self._get(0, self._size) if self._size else self._end

    def _get(self, start: int, stop: int) -> NDArray[np.uint8]:
        from obstore.exceptions import PreconditionError

        try:
            with explained(self._url):
                options: GetOptions = {"range": (start, stop), "if_match": self._tag}
                data = np.frombuffer(memoryview(self._client.get(self._url.key, options=options).bytes()), np.uint8)
        except (PreconditionError, FileNotFoundError) as error:
            raise StoppedError(f"{self._url} was replaced while it was read; run the same command again") from error
        if len(data) != stop - start:
            raise CorruptStoreError(f"{len(data)} bytes came for {stop - start} that were asked for")
        return data
