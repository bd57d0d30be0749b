"""Which episodes an evaluation asks for, and the list that this comes to for a head and a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from ..cubes.bank import FeatureBank
from ..errors import FewShotError
from ..head import Head
from ..training.defaults import TEST_EPISODES
from .episode_list import read_episode_list
from .listing import Listing, draw_listing, read_listing
from .sources import RANDOM

_FROM_HEAD = ("way", "shot", "query_mode", "queries")


class ListSettings(TypedDict, total=False):
    """Keyword arguments that say which episodes are scored; left out or None: the value named here.

    episodes: 10,000, drawn by `list_seed` (0); way, shot, query_mode, queries: those that the run was trained on,
    without a run 5, 1 and a single query; episodes_from: `random`, or `source-disjoint`; episode_list: a file, which
    fixes all the others.
    """

    episodes: int | None
    list_seed: int | None
    way: int | None
    shot: int | None
    query_mode: str | None
    queries: int | None
    episodes_from: str | None
    episode_list: Path | None


def choose_listing(bank: FeatureBank, head: Head, **settings: Unpack[ListSettings]) -> Listing:
    """Draw the list on the bank's videos, or read it. Raises FewShotError."""
    path = settings.pop("episode_list", None)
    if path is not None:
        refuse_beside_list(dict(settings))
        return read_listing(bank, Path(path))
    wanted = settings.get("episodes")
    return draw_listing(
        bank,
        episodes=TEST_EPISODES if wanted is None else wanted,
        list_seed=settings.get("list_seed") or 0,
        episodes_from=settings.get("episodes_from") or RANDOM,
        **_from_head(head, {name: settings.get(name) for name in _FROM_HEAD}),
    )


def check_list(bank: FeatureBank, asked: ListSettings, *, way: int, shot: int, query_mode: str, queries: int) -> None:
    """Raise FewShotError, before anything is trained, where this list cannot be scored on the bank's videos."""
    path, episodes_from = asked.get("episode_list"), asked.get("episodes_from") or RANDOM
    if path is not None:
        read_listing(bank, Path(path))
        return
    drawn = {"way": way, "shot": shot, "query_mode": query_mode, "queries": queries, "episodes_from": episodes_from}
    count = asked.get("episodes")
    draw_listing(
        bank, episodes=TEST_EPISODES if count is None else count, list_seed=asked.get("list_seed") or 0, **drawn
    )


def refuse_beside_list(given: dict[str, Any]) -> None:
    """Raise FewShotError for settings that an episode list fixes."""
    names = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    if names:
        raise FewShotError(
            f"an episode list fixes {', '.join(names)} already; leave {'them' if names[1:] else 'it'} out"
        )


def _from_head(head: Head, drawn: dict[str, Any]) -> dict[str, Any]:
    """What was given, else what the head was trained on; another query mode starts from one query."""
    chosen = {name: getattr(head, name) if value is None else value for name, value in drawn.items()}
    if drawn["queries"] is None and chosen["query_mode"] != head.query_mode:
        chosen["queries"] = 1
    return chosen


def lists_by_shot(
    shots: Sequence[int] | None, paths: Sequence[Path], asked: ListSettings, *, way: int | None
) -> dict[int, tuple[int, ListSettings]]:
    """The lists of a table: shot -> (way, which episodes). Without files those that were asked for, for each of
    `shots` (1) and `way` (5).

    Raises FewShotError where files and options contradict each other, or two files are of one shot.
    """
    if not paths:
        return dict.fromkeys(shots or (1,), (way or 5, asked))
    refuse_beside_list({"shot": shots, "way": way, **asked})
    found: dict[int, tuple[int, ListSettings]] = {}
    for path in paths:
        header = read_episode_list(path).header
        if header["shot"] in found:
            raise FewShotError(f"two episode lists are {header['shot']}-shot, the second '{path}'; give one a shot")
        found[header["shot"]] = header["way"], {"episode_list": path}
    if len({ways for ways, _ in found.values()}) > 1:
        raise FewShotError("the episode lists must be of one number of ways; make a table of each")
    return found
