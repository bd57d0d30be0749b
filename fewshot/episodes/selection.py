"""The episodes by which a training run chooses its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cubes.bank import FeatureBank
from ..cubes.banks import Banks
from ..errors import FewShotError
from ..training.defaults import VAL_EPISODES
from .episode import EpisodeRows
from .listing import read_listing
from .sampler import EpisodeSampler

VAL_LIST_SEED = 0
SELECT_ON = ("val", "test", "none")


@dataclass(frozen=True, eq=False)
class Selection:
    """bank: of the split that selects; rows: its fixed episodes; digest: of the list file they are from, else ''."""

    bank: FeatureBank
    rows: EpisodeRows
    digest: str = ""


def choose_selection(
    banks: Banks,
    select_on: str,
    count: int | None,
    path: Path | None,
    drawn: dict[str, Any],
    notes: list[str],
) -> Selection | None:
    """The episodes of `select_on` that select: `count` drawn ones, or those of the list file `path`.

    None with `none`, and, with a note that says why, where there are too few val classes for the way. Test is used
    only where it was asked for by name. Raises FewShotError.
    """
    if select_on not in SELECT_ON:
        raise FewShotError(f"select_on ('{select_on}') must be one of {', '.join(SELECT_ON)}")
    if path is not None and (count is not None or select_on == "none"):
        other = "--val-episodes" if count is not None else "--select-on none"
        raise FewShotError(f"an episode list fixes the episodes that select; leave {other} or --episode-list out")
    if select_on == "none":
        return None
    found = len(banks.store.index.classes_of(select_on))
    if select_on == "val" and path is None and found < drawn["way"]:
        classes = f"{found} val classes are fewer than way ({drawn['way']})" if found else "there are no val classes"
        notes.append(f"{classes}: nothing is selected, the last weights of every head are kept")
        return None
    if select_on == "test":
        notes.append("selecting on test, as some published numbers do: scores on test are too high, and say so")
    bank = banks.open(select_on)
    if path is not None:
        listing = read_listing(bank, path)
        return Selection(bank, listing.rows, listing.digest)
    sampler = EpisodeSampler(keys=bank.keys, classes=bank.classes, split=select_on, seed=VAL_LIST_SEED, **drawn)
    return Selection(bank, sampler.rows(0, count or VAL_EPISODES))
