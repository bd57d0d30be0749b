"""Small stores to test with, in every format. `make` builds the parts; `kind` runs a test for each kind of store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.cache.index import DONE, FAILED, VideoIndex
from mastaf.cache.place import StorePath
from mastaf.cache.spec import FeatureSpec
from mastaf.cache.store import Store, StoreHeader, create_store

# (suffix, compression): whatever runs over this list is the contract that each kind of store keeps.
KINDS = [(".zarr", ""), (".h5", ""), (".zarr", "zstd")]


class Make:
    """Parts of stores with defaults for what a test does not care about."""

    def __init__(self, spec_fields: dict[str, Any]) -> None:
        self.spec_fields = spec_fields

    def spec(self, cube_shape=(3, 1, 2, 2), views=("plain",), **changes: Any) -> FeatureSpec:
        return FeatureSpec(**(self.spec_fields | {"views": views, "cube_shape": cube_shape} | changes))

    def index(self, n: int = 10) -> VideoIndex:
        names = tuple(f"wälk {i % 3}/clip{i}" for i in range(n))
        return VideoIndex(
            paths=tuple(f"{name}.mp4" for name in names),
            keys=names,
            classes=tuple(f"wälk {i % 3}" for i in range(n)),
            splits=tuple(("train", "val", "test")[i % 3] for i in range(n)),
            groups=tuple("" if i % 2 else f"g{i:02d}" for i in range(n)),
        )

    def header(self, spec: FeatureSpec | None = None, *, shard_rows: int = 4, **changes: Any) -> StoreHeader:
        fields: dict[str, Any] = {
            "spec": spec or self.spec(),
            "dataset": "folder",
            "split_scheme": "folder",
            "flip_keeps_class": True,
            "shard_rows": shard_rows,
            "compress": "",
            "batch": 2,
            "threads": 1,
        }
        return StoreHeader(**(fields | changes))

    def empty(self, path: StorePath, *, n: int = 10, compress: str = "", **changes: Any) -> Store:
        return create_store(path, header=self.header(compress=compress, **changes), index=self.index(n))

    def cubes(self, store: Store, shard: int, seed: int = 0) -> np.ndarray:
        """Random cubes for a shard: float16 [r, views, c, t, h, w]."""
        shape = (len(store.shard_range(shard)), *store.spec.row_shape)
        return np.random.default_rng([seed, shard]).normal(size=shape).astype("<f2")

    def write(self, store: Store, shard: int, *, failed: tuple[int, ...] = (), seed: int = 0, **changes: Any):
        """Write random cubes into a shard, in which the `failed` rows fail; returns what then must be read back."""
        cubes = self.cubes(store, shard, seed)
        rows = store.shard_range(shard)
        arguments: dict[str, Any] = {
            "states": [FAILED if row in failed else DONE for row in rows],
            "reasons": {row: "no video stream" for row in rows if row in failed},
            "notes": {},
            "device": "cpu",
        }
        store.write_shard(shard, cubes, **(arguments | changes))
        expected = cubes.copy()
        expected[[row - rows.start for row in rows if row in failed]] = 0
        return expected

    def full(self, path: StorePath, **changes: Any) -> tuple[Store, np.ndarray]:
        """A store in which row 5 failed and every other row is done, and its cubes [n, views, c, t, h, w]."""
        store = self.empty(path, **changes)
        return store, self.fill(store)

    def fill(self, store: Store) -> np.ndarray:
        """Fill an empty store so."""
        return np.concatenate([self.write(store, shard, failed=(5,)) for shard in range(store.n_shards)])


@pytest.fixture(scope="session")
def make(spec_fields: dict[str, Any]) -> Make:
    return Make(spec_fields)


@pytest.fixture(scope="module", params=KINDS, ids=["zarr", "h5", "zarr-zstd"])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """(suffix, compression) of every kind of store."""
    return request.param


@pytest.fixture(params=[*KINDS, "s3"], ids=["zarr", "h5", "zarr-zstd", "s3"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path, make: Make) -> Callable[..., Store]:
    """`new_store(...)`: an empty store of every kind, in a folder or in object storage; arguments as `make.empty`."""
    if request.param == "s3":
        home, suffix, compress = request.getfixturevalue("bucket").new_place(), ".zarr", ""
    else:
        home, (suffix, compress) = tmp_path, request.param
    return lambda **changes: make.empty(home / f"s{suffix}", **{"compress": compress} | changes)


@pytest.fixture(scope="module", params=[".zarr", ".h5"])
def suffix(request: pytest.FixtureRequest) -> str:
    """Suffixes, for what does not depend on compression."""
    return request.param


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, and flushing every small file takes most of the time of these tests."""
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)
