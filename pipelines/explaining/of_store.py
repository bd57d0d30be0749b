"""An episode of a store explained: the same episode, head and scores as an evaluation has."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from ...cache import console
from ...cache.store import Store
from ...fewshot.cubes.bank import FeatureBank
from ...fewshot.environment import resolve_device
from ...fewshot.episodes.episode import Episode, EpisodeRows
from ...fewshot.episodes.list_settings import ListSettings, choose_listing
from ...fewshot.episodes.randomness import EpisodeRandom
from ...fewshot.head import Head, find_head
from ...fewshot.methods.registry import naming_plugin
from ..errors import PipelineError
from .attention import UNTRAINED, UNTRAINED_WORDS, attend, head_words, require_maps
from .explanation import Explanation, Seen
from .same_cubes import require_same_cubes
from .store_clips import decode_rows


@dataclass(frozen=True, eq=False)
class Found:
    """An explanation and what it is of. checked: whether the frames were seen to give the cubes that are stored."""

    explanation: Explanation
    facts: dict[str, Any]
    checked: bool


def explain_episode(
    store: Store,
    run: Path | None = None,
    *,
    number: int,
    split: str = "test",
    method: str | None = None,
    method_keywords: Mapping[str, Any] | None = None,
    root: Path | None = None,
    follow_links: bool = False,
    weights: str | None = None,
    allow_partial: bool = False,
    device: str = "cpu",
    **episodes: Unpack[ListSettings],
) -> Found:
    """Episode `number` of the list that an evaluation with these settings scores, with a run or a head without one.

    root, follow_links: see `decode_rows`; weights: of the backbone, to check that the videos are the same still.
    Raises PipelineError, and what an evaluation raises.
    """
    chosen = resolve_device(device)
    asked = {"way": episodes.get("way") or 5, "shot": episodes.get("shot") or 1}
    head = _head(store, run, method, method_keywords or {}, **asked, device=chosen)
    bank = FeatureBank(store, split, allow_partial=allow_partial, device=chosen)
    listing = choose_listing(bank, head, **episodes)
    if not 0 <= number < len(listing.rows):
        raise PipelineError(
            f"episode ({number}) must be from 0 to {len(listing.rows) - 1}: the list has {len(listing.rows)} episodes; "
            "name another, or a longer list with --episodes or --episode-list"
        )
    rows = listing.rows[number : number + 1]
    episode = _cubes(bank, rows, head).to(chosen)
    with naming_plugin(head.name, "explaining"):
        scored = attend(head.method, head.name, episode, EpisodeRandom(listing.list_seed or 0, number))
    wanted = list(dict.fromkeys(bank.rows[np.concatenate([rows.support.ravel(), rows.query.ravel()])].tolist()))
    seen = decode_rows(store, wanted, root=root, follow_links=follow_links)
    for video in seen.values():
        if video.note:
            console.say(f"note: {video.name}: {video.note}")
    checked = require_same_cubes(store, seen, weights=weights)
    facts = {"store": store.digest, "recipe": store.spec.recipe, "split": split, "episode": number}
    facts |= {"episode_list": listing.digest, "list_seed": listing.list_seed, **head.facts}
    return Found(_explanation(bank, rows, head, seen, number, *scored), facts, checked)


def _head(store: Store, run: Path | None, method: str | None, keywords: Mapping[str, Any], **asked: Any) -> Head:
    """The head of a run, of a method, or the one that is shown where none is named."""
    if method is not None:
        require_maps(method)
    if run is None and method is None and not keywords:
        console.say(UNTRAINED_WORDS)
        keywords = UNTRAINED
    return find_head(store, run, method, keywords, **asked)


def _explanation(
    bank: FeatureBank,
    rows: EpisodeRows,
    head: Head,
    seen: Mapping[int, Seen],
    number: int,
    logits: np.ndarray,
    maps: Mapping[str, np.ndarray],
) -> Explanation:
    support, query = bank.rows[rows.support[0]], bank.rows[rows.query[0]]  # [way, shot], [q]
    way, shot = support.shape
    return Explanation(
        head=head_words(head),
        title=f"episode {number} of {bank.split} in {bank.store.path.stem}, {way}-way {shot}-shot",
        classes=[bank.class_names[c] for c in rows.classes[0]],
        supports=[[seen[row] for row in shots] for shots in support.tolist()],
        queries=[seen[row] for row in query.tolist()],
        labels=rows.labels[0].tolist(),
        logits=logits,
        maps=maps,
    )


def _cubes(bank: FeatureBank, rows: EpisodeRows, head: Head) -> Episode:
    """The cubes of one episode, read from the store alone: a bank would bring the whole split into memory."""
    found = {}
    for name, positions in (("support", rows.support), ("query", rows.query)):
        wanted = bank.rows[positions.ravel()]  # [m]
        cubes = bank.store.read(wanted).astype(np.float32)  # [m, c, t, h, w]
        finite = np.isfinite(cubes).all(axis=(1, 2, 3, 4))  # [m]
        if not finite.all():
            key = bank.store.index.keys[wanted[finite.argmin()]]
            raise PipelineError(f"the cube of '{key}' holds NaN or Inf; run mastaf-cache verify {bank.store.path}")
        found[name] = torch.from_numpy(cubes).unflatten(0, positions.shape)  # [1, way, shot or q, c, t, h, w]
    labels, ids = bank.labels(rows, head.train_class_ids)
    return Episode(found["support"], found["query"], labels, ids)
