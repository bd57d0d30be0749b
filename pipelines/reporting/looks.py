"""Where a run's head looked in an episode: its attention maps, once the head proves to be the one that was scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...cache.errors import CacheError
from ...cache.store import Store
from ...fewshot.errors import FewShotError
from ...fewshot.head import head_of_run
from ...fewshot.methods.base import Method
from ...fewshot.scoring import score_episodes
from .mistakes import Episodes

_CLOSE = 1e-3  # of logits, relative to the largest: other machines and chunks move the last digits

Map = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Look:
    """One query and one way. query, support: maps [t, h, w] on the query's frames, and on the mean of the way's shots;
    None where the head has none; names: of these maps, as the method calls them."""

    query: Map | None
    support: Map | None
    names: tuple[str, ...]


def load_method(run: Path, store: Store) -> Method | str:
    """The method of a run, or why it cannot be had."""
    try:
        return head_of_run(run, store, device=torch.device("cpu")).method.eval()
    except (FewShotError, CacheError, OSError) as error:
        return f"no attention: {error}"


def look_at(method: Method, episodes: Episodes, place: int, logits: Map, ways: list[int]) -> list[Look] | str:
    """Where the method looked when it answered a query, for some ways; else why that cannot be told.

    logits: [way], as recorded for this query.
    """
    rows, query = episodes.whole(place)
    scored = score_episodes(method, episodes.bank, rows)[0, query]  # [way]
    if not np.allclose(scored, logits, rtol=0, atol=_CLOSE * max(1.0, float(np.abs(logits).max()))):
        return "no attention: the weights in the run's folder do not give the recorded scores again"
    with torch.no_grad():
        maps = method.attention(episodes.bank.episode(rows))
    if not maps:
        return "no attention: this head has no maps to show"
    return [_look(maps, query, way) for way in ways]


def _look(maps: Mapping[str, Tensor], query: int, way: int) -> Look:
    found: dict[str, Map] = {}
    names = []
    # Of a side with several maps the one between query and class is shown: it is about this pair.
    for side in ("query", "class"):
        for name in (f"{side}_cross", f"{side}_self", side):
            if name in maps:
                found[side] = _one(maps[name][0], side, query, way)
                names.append(name)
                break
    return Look(found.get("query"), found.get("class"), tuple(names))


def _one(map_: Tensor, side: str, query: int, way: int) -> Map:
    """[t, h, w] of [q, way, t, h, w], or of [q, t, h, w] (query) or [way, t, h, w] (class)."""
    one = map_[query, way] if map_.dim() == 5 else map_[query if side == "query" else way]
    return one.float().numpy()
