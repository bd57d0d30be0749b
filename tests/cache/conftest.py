"""Small stores to test with, in every format. `make` builds the parts; `kind` runs a test for each kind of store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mastaf.cache.index import DONE, FAILED, VideoIndex
from mastaf.cache.packed import Packed
from mastaf.cache.packing import pack
from mastaf.cache.place import StorePath
from mastaf.cache.spec import FeatureSpec
from mastaf.cache.store import Store, StoreHeader, create_store

# By name, (suffix, what else makes it): whatever runs over this list is the contract that each kind of store keeps.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "zarr": (".zarr", {}),
    "h5": (".h5", {}),
    "zarr-zstd": (".zarr", {"compress": "zstd"}),
    "zarr-int8": (".zarr", {"dtype": "int8"}),
    "h5-int8": (".h5", {"dtype": "int8"}),
}


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

    def header(
        self, spec: FeatureSpec | None = None, *, shard_rows: int = 4, dtype: str = "float16", **changes: Any
    ) -> StoreHeader:
        fields: dict[str, Any] = {
            "spec": replace(spec or self.spec(), dtype=dtype),
            "dataset": "folder",
            "split_scheme": "folder",
            "flip_keeps_class": True,
            "shard_rows": shard_rows,
            "compress": "",
            "batch": 2,
            "threads": 1,
        }
        return StoreHeader(**(fields | changes))

    def empty(self, path: StorePath, *, n: int = 10, **changes: Any) -> Store:
        return create_store(path, header=self.header(**changes), index=self.index(n))

    def cubes(self, store: Store, shard: int, seed: int = 0) -> np.ndarray:
        """Random cubes for a shard: float16 [r, views, c, t, h, w]."""
        return self.packed(store, shard, seed).values()

    def packed(self, store: Store, shard: int, seed: int = 0) -> Packed:
        """The same as the store keeps them."""
        shape = (len(store.shard_range(shard)), *store.spec.row_shape)
        return pack(np.random.default_rng([seed, shard]).normal(size=shape).astype("f4"), store.spec.dtype)[0]

    def write(self, store: Store, shard: int, *, failed: tuple[int, ...] = (), seed: int = 0, **changes: Any):
        """Write random cubes into a shard, in which the `failed` rows fail; returns what then must be read back."""
        packed = self.packed(store, shard, seed)
        rows = store.shard_range(shard)
        arguments: dict[str, Any] = {
            "states": [FAILED if row in failed else DONE for row in rows],
            "reasons": {row: "no video stream" for row in rows if row in failed},
            "notes": {},
            "device": "cpu",
        }
        store.write_shard(shard, packed.numbers, scales=packed.scales, **(arguments | changes))
        expected = packed.values().copy()
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


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """(suffix, what else `make.empty` is given) of every kind of store."""
    return KINDS[request.param]


@pytest.fixture(params=[*KINDS, "s3", "s3-int8"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path, make: Make) -> Callable[..., Store]:
    """`new_store(...)`: an empty store of every kind, in a folder or in object storage; arguments as `make.empty`."""
    suffix, how = KINDS[request.param.replace("s3", "zarr")]
    home = request.getfixturevalue("bucket").new_place() if request.param.startswith("s3") else tmp_path
    return lambda **changes: make.empty(home / f"s{suffix}", **how | changes)


@pytest.fixture(scope="module", params=[".zarr", ".h5"])
def suffix(request: pytest.FixtureRequest) -> str:
    """Suffixes, for what does not depend on compression."""
    return request.param


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test cuts the power, and flushing every small file takes most of the time of these tests."""
    monkeypatch.setattr("os.fsync", lambda _descriptor: None)
