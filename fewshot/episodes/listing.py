"""The episodes that are scored: drawn from a split by a seed, or read from a list file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.store import Store
from ..cubes.bank import FeatureBank
from ..errors import FewShotError
from .episode import EpisodeRows
from .episode_list import digest_of, read_episode_list, write_episode_list
from .sampler import EpisodeSampler
from .sources import DISJOINT, EPISODES_FROM, RANDOM, shared_queries, source_numbers

LISTED = "listed"


@dataclass(frozen=True, eq=False)
class Listing:
    """Episodes of one split.

    digest: sha256 of the list; query_mode: `single`, `per_class`, or `listed` where a file follows neither; queries:
    in the episode, or of each class (`per_class`); list_seed: None for a file; episodes_from: `random`,
    `source-disjoint`, or `listed` for a file that does not say; source_shared: share of the queries that are of one
    source with a support of their way, None where no source is known.
    """

    rows: EpisodeRows
    digest: str
    query_mode: str
    queries: int
    list_seed: int | None
    episodes_from: str
    source_shared: float | None


def draw_listing(
    bank: FeatureBank,
    *,
    episodes: int,
    list_seed: int,
    way: int,
    shot: int,
    query_mode: str,
    queries: int,
    episodes_from: str = RANDOM,
) -> Listing:
    """Episodes 0 .. episodes-1 of `list_seed` on the bank's videos. Raises FewShotError."""
    if episodes < 2:
        raise FewShotError(f"episodes ({episodes}) must be at least 2, for an interval; raise --episodes")
    sampler = EpisodeSampler(
        keys=bank.keys,
        classes=bank.classes,
        split=bank.split,
        way=way,
        shot=shot,
        query_mode=query_mode,
        queries=queries,
        seed=list_seed,
        episodes_from=episodes_from,
        groups=groups_of(bank),
    )
    rows = sampler.rows(0, episodes)
    shared = _source_shared(bank, rows)
    return Listing(rows, digest_of(rows, bank.keys), query_mode, queries, list_seed, episodes_from, shared)


def read_listing(bank: FeatureBank, path: Path) -> Listing:
    """The episodes of a list file, on the bank's videos. Raises FewShotError naming videos that the bank lacks."""
    found = read_episode_list(path)
    if len(found) < 2:
        raise FewShotError(f"episode list '{path}' must have at least 2 episodes, for an interval")
    rows = found.rows_for(bank.keys, bank.classes)
    mode, queries = _query_mode(rows)
    episodes_from, shared = found.header.get("episodes_from"), _source_shared(bank, rows)
    if episodes_from == DISJOINT and shared:
        raise FewShotError(
            f"episode list '{path}' is {DISJOINT} by its first line, but {100 * shared:.1f} % of its queries share a "
            "source with a support of their class in this store; write the list anew for this store's sources"
        )
    told = episodes_from if episodes_from in EPISODES_FROM else LISTED
    return Listing(rows, found.sha256, mode, queries, None, told, shared)


def groups_of(bank: FeatureBank) -> list[str]:
    """The source of each usable video, '' where unknown."""
    return [bank.store.index.groups[row] for row in bank.rows]


def _source_shared(bank: FeatureBank, rows: EpisodeRows) -> float | None:
    groups = groups_of(bank)
    return float(shared_queries(rows, source_numbers(groups)).mean()) if any(groups) else None


def _query_mode(rows: EpisodeRows) -> tuple[str, int]:
    way, q = rows.support.shape[1], rows.query.shape[1]
    if q == 1:
        return "single", 1
    counts = np.stack([(rows.labels == n).sum(axis=1) for n in range(way)])  # [way, b]
    return ("per_class", q // way) if (counts * way == q).all() else (LISTED, q)


def write_listing(
    store: Store,
    *,
    out: Path,
    split: str,
    episodes: int,
    way: int,
    shot: int,
    list_seed: int = 0,
    query_mode: str = "single",
    queries: int = 1,
    episodes_from: str = RANDOM,
    allow_partial: bool = False,
) -> dict[str, Any]:
    """Write the list of these episodes to `out`; what the file's first line says, with its sha256."""
    bank = FeatureBank(store, split, allow_partial=allow_partial)
    drawn = {"way": way, "shot": shot, "query_mode": query_mode, "queries": queries}
    listing = draw_listing(bank, episodes=episodes, list_seed=list_seed, episodes_from=episodes_from, **drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "split": split,
        "split_scheme": store.header.split_scheme,
        "query_mode": query_mode,
        "list_seed": list_seed,
        "episodes_from": episodes_from,
    }
    sha256 = write_episode_list(out, listing.rows, bank.keys, **facts)
    shown = {"episodes": episodes, **drawn, **facts, "source_shared": listing.source_shared}
    return {"path": str(out), "sha256": sha256, **shown}
