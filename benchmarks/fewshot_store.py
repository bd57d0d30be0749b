"""A store of made-up cubes, post-ReLU like and with some structure, of any size."""

from pathlib import Path

import numpy as np
from mastaf.cache.index import DONE, VideoIndex
from mastaf.cache.packing import pack
from mastaf.cache.spec import FeatureSpec
from mastaf.cache.store import Store, StoreHeader, create_store, default_shard_rows, open_store

CUBE = (2048, 1, 7, 7)
HMDB51 = {"train": (31, 4280), "val": (10, 1194), "test": (10, 1292)}  # classes and videos of each split


def make_store(
    path: Path,
    splits: dict[str, tuple[int, int]],
    *,
    cube: tuple[int, int, int, int] = CUBE,
    dtype: str = "float16",
) -> Store:
    """A store with so many classes and videos of each split, made once."""
    if path.exists():
        return open_store(path)
    rows = [
        (f"{split}{n % classes:02d}/{n:06d}", f"{split}{n % classes:02d}", split)
        for split, (classes, videos) in splits.items()
        for n in range(videos)
    ]
    keys, names, parts = (tuple(column) for column in zip(*rows, strict=True))
    index = VideoIndex(tuple(f"{key}.mp4" for key in keys), keys, names, parts, ("",) * len(keys))
    spec = FeatureSpec(
        backbone="r3d",
        weights="ab" * 32,
        revision="",
        layer="layer4",
        frames=16,
        sampling="even",
        time="keep",
        resize="squash",
        resize_size=256,
        size=224,
        scaler="bilinear",
        scale=1 / 255,
        offset=0.0,
        mean=(0.4, 0.4, 0.4),
        std=(0.2, 0.2, 0.2),
        precision="fp32",
        dtype=dtype,
        views=("plain",),
        cube_shape=cube,
    )
    header = StoreHeader(
        spec=spec,
        dataset="hmdb51",
        split_scheme="hmdb51-arn",
        flip_keeps_class=True,
        shard_rows=default_shard_rows(spec),
        compress="",
        batch=1,
        threads=1,
    )
    store = create_store(path, header=header, index=index)
    rng = np.random.Generator(np.random.Philox(key=0))
    directions = {name: rng.standard_normal(cube[0], dtype=np.float32) for name in sorted(set(names))}
    for shard in range(store.n_shards):
        wanted = store.shard_range(shard)
        noise = rng.random((len(wanted), *cube), dtype=np.float32) * 3 - 1.5
        own = np.stack([directions[names[row]] for row in wanted])[:, :, None, None, None]
        cubes = pack(np.maximum(noise + 0.1 * own, 0)[:, None], dtype)[0]  # [r, 1, c, t, h, w]
        about = {"states": [DONE] * len(wanted), "reasons": {}, "notes": {}, "device": "cpu"}
        store.write_shard(shard, cubes.numbers, scales=cubes.scales, **about)
    return store
