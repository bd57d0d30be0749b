"""From a folder of your own videos to a few-shot accuracy, in Python: what `mastaf two-stage` does, step by step.

    python examples/own_videos.py my_videos/ runs/own_videos

The folder holds CLASS/VIDEO, or {train,val,test}/CLASS/VIDEO.
"""

import sys
from pathlib import Path

from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.run import extract
from mastaf.fewshot.evaluate import evaluate


def main(root: Path, out: Path) -> None:
    """Extract the cubes of the videos under `root` into `out` and score Neighbor on them."""
    videos = find_dataset("folder", root=root)
    extract(videos, load_backbone("r3d-tiny"), out=out / "cubes.zarr")

    store = open_store(out / "cubes.zarr")
    print(f"{store.path}: {len(store.index)} cubes of {store.spec.cube_shape}")

    way = min(5, len(store.index.classes_of("test")))
    neighbor = {"variant": "neighbor"}  # MASTAF without attention: nothing to train
    record = evaluate(store, method_keywords=neighbor, way=way, shot=1, episodes=1000, out=out)
    print(f"{way}-way 1-shot accuracy: {record['accuracy']:.3f} +- {record['ci95']:.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
