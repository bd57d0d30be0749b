"""From a folder of videos to a few-shot accuracy: extract if needed, train, evaluate."""

from pathlib import Path
from typing import Any

from ..cache import console
from ..cache.store import Store, open_store
from ..extract.backbones.base import Backbone
from ..extract.backbones.registry import load_backbone
from ..extract.datasets.by_name import find_dataset
from ..extract.datasets.videos import VideoSet
from ..extract.report import say_what_was_done, say_what_was_found
from ..extract.run import extract
from ..extract.summary import ExtractSummary
from ..fewshot.evaluate import evaluate
from ..fewshot.train import train
from .errors import PipelineError
from .outputs import default_folder

MOST_WAYS = 5  # as the benchmarks have it


def run_two_stage(
    *,
    root: Path | None,
    dataset: str,
    split_files: Path | None,
    follow_links: bool = False,
    backbone: str,
    weights: str | None,
    revision: str | None = None,
    out: Path | None,
    way: int | None,
    shot: int,
    episodes: int,
    train_episodes: int | None,
    workers: int | None,
    seed: int,
) -> dict[str, Any]:
    """Run both stages into `out`; each continues what an earlier run left. Returns what `--json` holds.

    The test classes are scored, or the val classes where there are none. Raises ExtractError, CacheError,
    FewShotError or PipelineError on wrong input.
    """
    out = out or default_folder(dataset, root, backbone)
    console.say(f"[1/3] extract with {backbone}")
    network = load_backbone(backbone, weights=weights, revision=revision)
    videos = find_dataset(dataset, root=root, split_files=split_files, follow_links=follow_links)
    summary = _extract(out / "cubes.zarr", videos, network, workers)

    store = open_store(out / "cubes.zarr")
    scored, trains = _choose_split(store), bool(store.index.classes_of("train"))
    way = way or _default_way(store, ["train", scored] if trains else [scored])
    if trains:
        console.say(f"[2/3] train MASTAF, {way}-way {shot}-shot")
        run = out / f"mastaf_{way}way_{shot}shot_seed{seed}"
        # What is scored must not choose the weights.
        chosen = "none" if scored == "val" else "val"
        train(store, out=run, way=way, shot=shot, train_episodes=train_episodes, seed=seed, select_on=chosen)
        results = run / "results"
        record = evaluate(store, run, split=scored, episodes=episodes)
    else:
        console.say("[2/3] no train classes, so nothing is trained: Neighbor, which has no parameters, is scored")
        head, results = {"variant": "neighbor"}, out / "neighbor" / "results"
        record = evaluate(
            store, method_keywords=head, way=way, shot=shot, split=scored, episodes=episodes, out=results.parent
        )
    accuracy, half = 100 * record["accuracy"], 100 * record["ci95"]
    console.say(
        f"[3/3] {way}-way {shot}-shot accuracy on {scored} classes: {accuracy:.1f} +- {half:.1f} % "
        f"({episodes} episodes, 95 % interval; chance {100 / way:.1f} %)"
    )
    console.say(f"cubes: {store.path}; record and predictions: {results}")
    return {**summary.to_json(), "store": str(store.path), "result": record}


def _extract(path: Path, videos: VideoSet, network: Backbone, workers: int | None) -> ExtractSummary:
    say_what_was_found(videos)
    summary = extract(videos, network, out=path, workers=workers)
    say_what_was_done(summary, path)
    return summary


def _choose_split(store: Store) -> str:
    for split in ("test", "val"):
        if store.index.classes_of(split):
            return split
    raise PipelineError("the data set has train classes alone, and nothing to score; add ROOT/test/CLASS/VIDEO")


def _default_way(store: Store, splits: list[str]) -> int:
    """Five, or as many as the smallest of the splits has; said when it is fewer."""
    way = min(MOST_WAYS, *(len(store.index.classes_of(split)) for split in splits))
    if way < MOST_WAYS:
        console.say(f"{way}-way episodes: a split has only {way} classes")
    return way
