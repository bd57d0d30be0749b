"""Where a store is: a path on a disk, or an address in object storage.

`pathlib` would make one slash of the two in `s3://`, so an address is a type of its own, with what the project asks
of a store's path: its names, and whether something is there.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .checks import brief
from .errors import CacheError

SCHEME = "s3://"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# What the client, or a URL, would write in another way: the objects would not have the names that were given.
_ODD = re.compile(r"[\\{}^%`\[\]\"<>~#|?*\x00-\x1f\x7f]")


@dataclass(frozen=True)
class ObjectUrl:
    """`s3://bucket/key`. key: parts between single slashes, at least one."""

    bucket: str
    key: str

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise CacheError(f"bucket ('{brief(self.bucket)}') must be 3 to 63 of a-z, 0-9, - and ., as S3 has it")
        odd = _ODD.search(self.key)
        if odd:
            raise CacheError(f"key ({brief(self.key)}) must do without {odd.group()!a}; rename it")
        if any(part in ("", ".", "..") for part in self.key.split("/")):
            raise CacheError(f"key ({brief(self.key)}) must be names with single slashes between, such as a/name.zarr")

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """The name's suffix, with its dot."""
        return PurePosixPath(self.key).suffix

    def with_name(self, name: str) -> "ObjectUrl":
        """The address with another last part."""
        return ObjectUrl(self.bucket, str(PurePosixPath(self.key).with_name(name)))

    def __truediv__(self, name: str) -> "ObjectUrl":
        return ObjectUrl(self.bucket, f"{self.key}/{name}")

    def exists(self) -> bool:
        """Whether a store is there: the group's own object is written last."""
        from .bucket_files import BucketFiles

        return BucketFiles(self).exists("zarr.json")


StorePath = Path | ObjectUrl


def absolute(path: StorePath) -> StorePath:
    """The place by a name that means the same to every process, links followed."""
    return path.resolve() if isinstance(path, Path) else path


def store_path(given: str | StorePath) -> StorePath:
    """The place that `given` names: an address where it begins with s3://, else a path. CacheError for no address."""
    if isinstance(given, ObjectUrl):
        return given
    text = str(given)
    if isinstance(given, Path) and text.startswith("s3:/"):
        raise CacheError(f"store ({text}) must be given as text: a Path has lost a slash of s3://")
    if not text.startswith(SCHEME):
        return Path(given)
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    return ObjectUrl(bucket, key.removesuffix("/"))
