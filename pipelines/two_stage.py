"""From a folder of videos to a few-shot accuracy: extract if needed, train, evaluate."""

import re
from pathlib import Path
from typing import Any

from ..cache import console
from ..cache.store import Store, open_store
from ..extract.backbones.registry import load_backbone
from ..extract.datasets import find_dataset
from ..extract.run import extract
from ..fewshot.evaluate import evaluate
from ..fewshot.train import train
from .errors import PipelineError


def run_two_stage(
    *,
    root: Path | None,
    dataset: str,
    split_files: Path | None,
    backbone: str,
    weights: str | None,
    out: Path | None,
    way: int | None,
    shot: int,
    episodes: int,
    train_episodes: int | None,
    workers: int | None,
    seed: int,
) -> dict[str, Any]:
    """Run both stages into `out`; each continues what an earlier run left. Returns what `--json` holds.

    Raises ExtractError, CacheError, FewShotError or PipelineError on wrong input.
    """
    videos = find_dataset(dataset, root=root, split_files=split_files, seed=0)
    network = load_backbone(backbone, weights=weights)
    out = out or Path("runs") / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', Path(dataset).stem)}_{backbone}"
    console.say(f"[1/3] extract: {len(videos.index)} videos with {backbone}")
    summary = extract(videos, network, out=out / "cubes.zarr", workers=workers)
    for failure in summary.failures[:10]:
        console.say(f"  failed: {failure['key']}: {failure['reason']}")

    store = open_store(out / "cubes.zarr")
    way = way or _default_way(store)
    if store.index.classes_of("train"):
        console.say(f"[2/3] train: MASTAF, {way}-way {shot}-shot")
        run = out / f"mastaf_{way}way_{shot}shot_seed{seed}"
        train(store, out=run, way=way, shot=shot, train_episodes=train_episodes, seed=seed)
        record = evaluate(store, run, episodes=episodes)
    else:
        console.say("[2/3] train: skipped, there are no train classes; Neighbor, which has no parameters, is evaluated")
        record = evaluate(
            store, None, method_keywords={"variant": "neighbor"}, way=way, shot=shot, episodes=episodes, out=out
        )
    accuracy, half = 100 * record["accuracy"], 100 * record["ci95"]
    console.say(f"[3/3] {record['way']}-way {record['shot']}-shot accuracy: {accuracy:.1f} +- {half:.1f} %")
    return {"done": summary.done, "skipped": summary.skipped, "failed": summary.failed, "result": record}


def _default_way(store: Store) -> int:
    """Five, or as many as the smallest split that will be sampled has; said when it is fewer."""
    sizes = {split: len(store.index.classes_of(split)) for split in ("train", "val", "test")}
    if not sizes["test"]:
        raise PipelineError("the data set has no test classes; give ROOT/test/CLASS/VIDEO, or drop train/ and val/")
    way = min(5, *(size for size in sizes.values() if size))
    if way < 5:
        console.say(f"      {way}-way episodes: a split has only {way} classes")
    return way
