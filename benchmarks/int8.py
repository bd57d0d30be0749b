"""What int8 cubes would cost: the embedded data set's cubes, rounded to int8 and back, on the same episodes.

    python benchmarks/int8.py                              renders `motion` and extracts it, unless runs/demo has it
    python benchmarks/int8.py --store bf16.zarr --also fp32.zarr    a second store of the same videos, for scale
    python benchmarks/int8.py --load                       how fast 1,000 made-up cubes of each dtype come into memory

Rounding is symmetric (-127 to 127). `video`: a float16 scale for each channel of each video; `data set`: one for each
channel, from the train videos alone, beyond which values are cut off. Each is scored by Neighbor, by MASTAF as it was
trained on the float16 cubes, and by MASTAF trained on the rounded ones; differences are to the float16 cubes, paired
by query over 10,000 episodes, in points, with the interval clustered by class and video.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fewshot_store import make_store
from mastaf.cache import console
from mastaf.cache.describe import stored_bytes
from mastaf.cache.index import DONE
from mastaf.cache.packing import pack
from mastaf.cache.spec import STORE_DTYPES
from mastaf.cache.store import Store, create_store, open_store
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.run import extract
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.evaluate import evaluate_fully
from mastaf.fewshot.evaluation import Evaluation
from mastaf.fewshot.statistics.paired import paired_difference
from mastaf.fewshot.train import train
from numpy.typing import NDArray

MOST = 127
Round = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # of cubes [m, c, t, h, w]


def by_video(cubes: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `mastaf-extract --store-dtype int8` stores them."""
    return pack(cubes[:, None], "int8")[0].values()[:, 0].astype(np.float32)


def rounded(cubes: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cubes [m, c, t, h, w] to int8 in steps of `scale` [1, c, 1, 1, 1], and back."""
    step = np.maximum(scale.astype(np.float16).astype(np.float32), np.finfo(np.float16).smallest_subnormal)
    return np.clip(np.rint(cubes / step), -MOST, MOST).astype(np.int8) * step


def by_data_set(store: Store) -> Round:
    rows = store.rows_of("train")
    peaks = np.abs(store.read(rows[store.states()[rows] == DONE]).astype(np.float32)).max((0, 2, 3, 4))  # [c]
    return lambda cubes: rounded(cubes, (peaks / MOST)[None, :, None, None, None])


def rounded_store(source: Store, path: Path, how: Round) -> Store:
    """A copy of view 0 of `source` whose cubes went through int8. Same recipe, so that heads read both."""
    copy = create_store(path, header=source.header, index=source.index) if not path.exists() else open_store(path)
    worst, cosines = 0.0, []
    for shard in range(source.n_shards):
        record, cubes = source.record(shard), source.read_shard(shard)  # [r, views, c, t, h, w]
        assert record is not None
        before = cubes[:, 0].astype(np.float32)  # [r, c, t, h, w]
        after = how(before).astype(np.float16)
        if copy.record(shard) is None:
            states, reasons = record.states, record.reasons
            copy.write_shard(shard, after[:, None], states=states, reasons=reasons, notes={}, device="cpu")
        flat = [x.reshape(len(x), -1).astype(np.float64) for x in (before, after)]
        norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
        cosines.append((flat[0] * flat[1]).sum(1)[norms > 0] / norms[norms > 0])
        worst = max(worst, float(np.abs(flat[0] - flat[1]).max()))
    of_all = np.concatenate(cosines)
    print(f"{path.stem}: largest error {worst:.4f}, cosine: worst {of_all.min():.6f}, median {np.median(of_all):.6f}")
    return copy


def line(cells: list[str], shot: int, found: Evaluation, against: Evaluation | None) -> None:
    """Print a row of the table."""
    cells = [*cells, str(shot), f"{100 * found.record['accuracy']:.2f} ± {100 * found.record['ci95']:.2f}"]
    if against is not None:
        gap = paired_difference([found.predictions], [against.predictions])
        low, high = gap.ci95_clustered
        cells += [f"{100 * gap.mean:+.3f} [{100 * low:+.3f}, {100 * high:+.3f}]", f"{100 * gap.ci95:.3f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def compare(stores: dict[str, Store], out: Path, shot: int, episodes: int, train_episodes: int | None) -> None:
    """The table's rows of one shot. The first store is what the others are compared with."""
    scored = {"shot": shot, "episodes": episodes, "progress": False}
    first, original = next(iter(stores.items()))
    neighbor = {"method_keywords": {"variant": "neighbor"}, **scored}
    plain = evaluate_fully(original, out=out / "neighbor", **neighbor)
    line([first, "Neighbor"], shot, plain, None)
    run = out / f"{first}_{shot}"
    train(original, out=run, shot=shot, train_episodes=train_episodes, progress=False)
    full = evaluate_fully(original, run, **scored)
    line([first, "MASTAF"], shot, full, None)
    others = list(stores.items())[1:]
    for name, store in others:
        line([name, "Neighbor"], shot, evaluate_fully(store, out=out / name, **neighbor), plain)
        if store.spec.recipe == original.spec.recipe:
            same = evaluate_fully(store, run, out=out / name, **scored)
            line([name, f"MASTAF, trained on {first}"], shot, same, full)
    for name, store in others:
        own = out / f"{name}_{shot}"
        train(store, out=own, shot=shot, train_episodes=train_episodes, progress=False)
        line([name, "MASTAF, trained on itself"], shot, evaluate_fully(store, own, **scored), full)


def load_speed() -> None:
    """Print the rates of `--bank ram`, from the page cache, in turns."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        stores = {d: make_store(Path(folder) / f"{d}.zarr", {"test": (10, 1000)}, dtype=d) for d in STORE_DTYPES}
        for _ in range(4):
            for dtype, store in stores.items():
                start = time.perf_counter()
                FeatureBank(store, "test", bank="ram").cubes(np.array([0]))
                seconds.setdefault(dtype, []).append(time.perf_counter() - start)
        for dtype, store in stores.items():
            rate = 1000 / min(seconds[dtype])
            print(f"{dtype}: {stored_bytes(store) / 1e6:.0f} MB, {rate:.0f} cubes/s", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("runs/demo/motion_r3d-tiny.zarr"))
    parser.add_argument("--also", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/int8"))
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--train-episodes", type=int)
    parser.add_argument("--load", action="store_true")
    options = parser.parse_args()
    if options.load:
        load_speed()
        return
    if not options.store.exists():
        extract(find_dataset("motion"), load_backbone("r3d-tiny"), out=options.store)
    source = open_store(options.store)
    c, t, h, w = source.spec.cube_shape
    options.out.mkdir(parents=True, exist_ok=True)
    stores = {
        "float16": source,
        "int8-video": rounded_store(source, options.out / "int8-video.zarr", by_video),
        "int8-data-set": rounded_store(source, options.out / "int8-data-set.zarr", by_data_set(source)),
    }
    if options.also:
        stores["other-precision"] = open_store(options.also)
    size, whole = c * t * h * w, 2 * c * t * h * w
    print(
        f"bytes of {c} x {t} x {h} x {w}, scales included, of float16's: {100 * (size + 2 * c) / whole:.1f} % (video)"
    )
    headers = ["cubes", "head", "shot", "accuracy, %", "minus float16, points, by class and video", "± over episodes"]
    print(console.table([], headers))
    for shot in map(int, options.shots.split(",")):
        compare(stores, options.out, shot, options.episodes, options.train_episodes)


if __name__ == "__main__":
    main()
