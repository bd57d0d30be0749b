"""What probabilities and rejections are worth: classes drawn from a store, enrolled, and asked about the rest.

    python benchmarks/rejection.py [--draws 150]             # test classes of `motion`, twelve clips each
    python benchmarks/rejection.py --store cache/a.zarr

Prints the table of docs/own_videos.md, in %: from each draw of classes and examples the mean probability, the share of
right answers, of right answers that are rejected, what enrolment told of that, and of clips of other classes that are
rejected, by the score as `classify` does and by the probability.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from mastaf.cache.store import open_store
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.datasets.motion import render_motion
from mastaf.extract.run import extract
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.methods.mastaf import MASTAF
from mastaf.fewshot.statistics.temperature import Calibration, calibrate
from mastaf.fewshot.support_set import SupportSet

STRANGERS, REJECT_RATE = 20, 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="of other videos")
    parser.add_argument("--draws", type=int, default=150)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bank = FeatureBank(open_store(asked.store or _motion(Path(folder))), "test")
        cubes = bank.cubes(np.arange(len(bank))).numpy().astype(np.float16)  # [n, c, t, h, w]
    labels = np.array([bank.class_names.index(name) for name in bank.classes])  # [n]
    names = ("classes x clips", "probability", "right", "right ones rejected", "as told", "strangers rejected")
    print("| " + " | ".join([*names, "by the probability"]) + " |")
    print("|---|---|---|---|---|---|---|")
    for way, shot in ((3, 2), (5, 2), (3, 3), (3, 5), (5, 3), (5, 5)):
        rng = np.random.default_rng(0)
        found = np.mean([_draw(cubes, labels, way, shot, rng) for _ in range(asked.draws)], axis=0)
        print(f"| {way} x {shot} | " + " | ".join(f"{100 * share:.0f}" for share in found) + " |")


def _motion(folder: Path) -> Path:
    """A store of the test classes with twelve clips each."""
    render_motion(folder / "motion", clips_per_class={"train": 1, "val": 1, "test": 12})
    videos = find_dataset("folder", root=folder / "motion")
    extract(videos, load_backbone("r3d-tiny"), out=folder / "motion.zarr", progress=False)
    return folder / "motion.zarr"


def _draw(cubes: np.ndarray, labels: np.ndarray, way: int, shot: int, rng: np.random.Generator) -> tuple[float, ...]:
    chosen = rng.choice(labels.max() + 1, way, replace=False)
    members = [rng.permutation(np.flatnonzero(labels == name)) for name in chosen]
    support = np.concatenate([rows[:shot] for rows in members])
    queries = np.concatenate([rows[shot:] for rows in members])
    ways = np.repeat(np.arange(way), [len(rows) - shot for rows in members])
    others = rng.choice(np.flatnonzero(~np.isin(labels, chosen)), STRANGERS, replace=False)
    method = MASTAF.build(cube_shape=cubes.shape[1:], n_train_classes=0, variant="neighbor")
    scorer = SupportSet(method, cubes[support], np.repeat(np.arange(way), shot))
    logits, truth = scorer.leave_one_out(500)
    learnt = calibrate(logits, truth, reject_rate=REJECT_RATE, source="leave-one-out")
    known, unknown = scorer.score(cubes[queries]), scorer.score(cubes[others])
    right = known.argmax(1) == ways
    sure = learnt.probabilities(known).max(1)
    return (
        sure.mean(),
        right.mean(),
        (known.max(1)[right] < learnt.threshold).mean(),
        learnt.expected_false_rejects,
        (unknown.max(1) < learnt.threshold).mean(),
        (learnt.probabilities(unknown).max(1) < _by_probability(learnt, logits, truth)).mean(),
    )


def _by_probability(learnt: Calibration, logits: np.ndarray, truth: np.ndarray) -> float:
    """The threshold of the probability that would reject as many of the right ones."""
    sure = np.sort(learnt.probabilities(logits).max(1)[logits.argmax(1) == truth])
    return float(sure[int(REJECT_RATE * len(sure))])


if __name__ == "__main__":
    main()
