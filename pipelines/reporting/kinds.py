"""The same head on other cubes of the same videos: frozen or tuned, this backbone or that, on the same queries."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ...fewshot.errors import FewShotError
from ...fewshot.statistics.paired import Difference, paired_difference
from ...fewshot.statistics.significance import holm
from .blocks import BlockRow, head_name, matched
from .views import BlockView

MOST_KINDS = 200


@dataclass(frozen=True)
class KindPair:
    """A head on the cubes of one block minus the same head on those of another. first, second: numbers of blocks."""

    head: str
    episodes: int
    first: int
    second: int
    first_words: str
    second_words: str
    difference: Difference


def compare_kinds(views: Sequence[BlockView]) -> list[KindPair]:
    """Pairs between blocks of one list of episodes, where their stores have the same videos in the same rows."""
    found = []
    for one, two in combinations(views, 2):
        for first in one.block.rows:
            for second in two.block.rows:
                if head_name(first.record) == head_name(second.record):
                    difference = _difference(first, second)
                    if difference is not None:
                        words = (one.cubes, two.cubes)
                        episodes = first.record["episodes"]
                        name = head_name(first.record)
                        found.append(KindPair(name, episodes, one.number, two.number, *words, difference))
    return found


def _difference(first: BlockRow, second: BlockRow) -> Difference | None:
    answers = matched(first, second)
    try:
        return None if answers is None else paired_difference(*answers)
    except FewShotError:
        return None  # other rows: a store of other videos


def corrected(pairs: Sequence[KindPair]) -> list[KindPair]:
    """The same with p corrected over all of them."""
    p_holm = holm([pair.difference.p for pair in pairs])
    return [replace(pair, difference=pair.difference.corrected(p)) for pair, p in zip(pairs, p_holm, strict=True)]
