"""A head's surest wrong answers, and the supports of their episodes that were nearest to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...cache.store import Store
from ...fewshot.cubes.bank import FeatureBank
from ...fewshot.episodes.episode import EpisodeRows
from ...fewshot.episodes.listing import draw_listing, read_listing
from ...fewshot.errors import FewShotError
from ...fewshot.records import Predictions, ResultRecord


@dataclass(frozen=True)
class Mistake:
    """A wrong answer. place: among the predictions; row: of the query's video in the store; ways: (class, the head's
    probability of it) of the episode, as they stand in it; label, answer: places in `ways`."""

    place: int
    episode: int
    row: int
    ways: tuple[tuple[str, float], ...]
    label: int
    answer: int


@dataclass(frozen=True)
class Nearest:
    """The support of one way that is nearest to a query. way: its number; row: in the store; key: of its video;
    cosine: of the mean-pooled cubes."""

    way: int
    row: int
    key: str
    cosine: float


def surest_mistakes(answers: Predictions, count: int) -> list[Mistake]:
    """The wrong answers in which the head's probability of its answer is furthest above that of the true class; of a
    video the worst one alone."""
    logits = answers.logits.astype(np.float64)
    e = np.exp(logits - logits.max(axis=1, keepdims=True))  # [m, way]
    p = e / e.sum(axis=1, keepdims=True)  # [m, way]
    each = np.arange(len(p))
    gap = p[each, answers.predicted] - p[each, answers.label]  # [m]
    wrong = np.flatnonzero(~answers.correct)
    found: list[Mistake] = []
    seen: set[int] = set()
    for place in wrong[np.argsort(-gap[wrong], kind="stable")].tolist():
        row = int(answers.query_row[place])
        if row in seen:
            continue
        seen.add(row)
        names = [answers.class_names[number] for number in answers.classes[place].tolist()]
        ways = tuple(zip(names, p[place].tolist(), strict=True))
        label, answer = int(answers.label[place]), int(answers.predicted[place])
        found.append(Mistake(place, int(answers.episode[place]), row, ways, label, answer))
        if len(found) == count:
            break
    return found


@dataclass(frozen=True, eq=False)
class Episodes:
    """The scored episodes of a record, drawn again. queries: in an episode."""

    bank: FeatureBank
    rows: EpisodeRows
    queries: int

    def whole(self, place: int) -> tuple[EpisodeRows, int]:
        """The episode of a prediction, alone, and which of its queries that is."""
        episode, query = divmod(place, self.queries)
        return self.rows[episode : episode + 1], query

    def store_row(self, position: int) -> int:
        """Of a position in the split."""
        return int(self.bank.rows[position])


def episodes_of(record: ResultRecord, answers: Predictions, store: Store, lists: Mapping[str, Path]) -> Episodes | str:
    """The episodes of a record, once they prove to be those that it names; else why they cannot be had.

    lists: files of episode lists by their sha256.
    """
    path = lists.get(record.episode_list)
    if record.list_seed is None and path is None:
        return "its episodes came from a list file, so supports are known only with that file; give it: --episode-list"
    try:
        bank = FeatureBank(store, record.split, allow_partial=True)
        names = ("episodes", "list_seed", "way", "shot", "query_mode", "queries", "episodes_from")
        drawn = {name: getattr(record, name) for name in names}
        listing = draw_listing(bank, **drawn) if path is None else read_listing(bank, path)
    except FewShotError as error:
        return f"its episodes cannot be drawn again: {error}"
    queries = bank.rows[listing.rows.query].ravel()  # [m]
    if listing.digest != record.episode_list or not np.array_equal(queries, answers.query_row):
        return "its episodes cannot be drawn again: the store has other usable videos by now"
    return Episodes(bank, listing.rows, listing.rows.query.shape[1])


def nearest_supports(episodes: Episodes, mistake: Mistake) -> list[Nearest]:
    """The nearest support of the answered way, then that of the true one."""
    (one, number), bank = episodes.whole(mistake.place), episodes.bank
    query = _pooled(bank, one.query[0, number : number + 1])[0]  # [c]
    found = []
    for way in (mistake.answer, mistake.label):
        positions = one.support[0, way]  # [shot]
        cosines = _pooled(bank, positions) @ query  # [shot]
        best = int(torch.argmax(cosines))
        position = int(positions[best])
        found.append(Nearest(way, episodes.store_row(position), bank.keys[position], float(cosines[best])))
    return found


def _pooled(bank: FeatureBank, positions: NDArray[np.int64] | Sequence[int]) -> torch.Tensor:
    """Mean-pooled cubes of unit length, [m, c]."""
    pooled = bank.cubes(np.asarray(positions)).mean(dim=(2, 3, 4))  # [m, c]
    return torch.nn.functional.normalize(pooled, dim=1)
