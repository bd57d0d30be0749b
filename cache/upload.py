"""Making a store in object storage: made in a folder, then put object by object, the group's own last."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import CacheError
from .place import ObjectUrl

if TYPE_CHECKING:
    from .bucket_files import BucketFiles

_ROOT = "zarr.json"


@contextmanager
def uploaded(url: ObjectUrl) -> Iterator[Path]:
    """Yield a path for an empty store; when the block ends well, put what it made at `url`.

    Killed before the end it leaves objects that are no store, and that the next attempt writes again. CacheError when
    a store, or anything else, is there. The caller is its only writer (`writer_lock`).
    """
    from .bucket_files import BucketFiles

    files = BucketFiles(url)
    with tempfile.TemporaryDirectory(prefix="mastaf-") as folder:
        made = Path(folder) / url.name
        yield made
        names = sorted(str(path.relative_to(made)) for path in made.rglob("*") if path.is_file())
        _require_free(files, url, names)
        for name in sorted(names, key=lambda name: name == _ROOT):
            files.write(name, [(made / name).read_bytes()])


def _require_free(files: "BucketFiles", url: ObjectUrl, names: list[str]) -> None:
    """CacheError unless nothing is at `url`, or a part of an empty store alone."""
    ours = {(url / name).key for name in names if name != _ROOT}
    for key, _, _ in files.listing(f"{url.key}/", most=10_000):
        if key not in ours:
            raise CacheError(f"{url} exists already ({key}); name another path, or move or remove it first")
