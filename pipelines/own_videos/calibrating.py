"""What scores of enrolled classes mean: from the support set itself, or from a store of other videos."""

from pathlib import Path
from typing import TYPE_CHECKING

from ...cache.place import store_path
from ...fewshot.statistics.temperature import Calibration, calibrate
from ..errors import PipelineError
from .enrolment import Enrolment

if TYPE_CHECKING:
    from ...fewshot.support_set import SupportSet

MOST_LEFT_OUT = 500  # examples that are left out in turn
EPISODES = 1000
_SPLITS = ("val", "test", "train")  # in the order in which they are asked


def calibrate_classes(
    scorer: "SupportSet", enrolment: Enrolment, *, store: Path | str | None, reject_rate: float
) -> Calibration | None:
    """From episodes of a store if one is given; else by leaving out each example, where every class has two or more;
    else None."""
    if store is not None:
        return _from_store(scorer, enrolment, str(store), reject_rate)
    if min(enrolment.counts.values()) < 2:
        return None
    logits, ways = scorer.leave_one_out(MOST_LEFT_OUT)
    return calibrate(logits, ways, reject_rate=reject_rate, source="leave-one-out")


def _from_store(scorer: "SupportSet", enrolment: Enrolment, given: str, reject_rate: float) -> Calibration:
    from ...cache.store import open_store
    from ...fewshot.cubes.bank import FeatureBank
    from ...fewshot.episodes.sampler import EpisodeSampler
    from ...fewshot.scoring import score_episodes

    store, spec = open_store(store_path(given)), enrolment.spec
    there = store.spec
    alike = type(spec).from_json(spec.to_json() | {"views": list(there.views), "dtype": there.dtype})
    alike.require_equal(there, here="the enrolled classes", there=f"store {given}")
    shot = min(enrolment.counts.values())
    for split in _SPLITS:
        names = store.index.classes_of(split)
        if len(names) < 2:
            continue
        bank = FeatureBank(store, split, allow_partial=True)
        way = min(len(names), len(enrolment.classes))
        sampler = EpisodeSampler(
            keys=bank.keys,
            classes=bank.classes,
            split=split,
            way=way,
            shot=shot,
            query_mode="single",
            queries=1,
            seed=0,
        )
        rows = sampler.rows(0, EPISODES)
        logits = score_episodes(scorer.method, bank, rows)  # [e, 1, way]
        source = f"{EPISODES} episodes of {split} classes of {given}"
        return calibrate(logits[:, 0], rows.labels[:, 0], reject_rate=reject_rate, source=source)
    raise PipelineError(f"calibrate ({given}) must be a store with two classes or more in one of its splits")
