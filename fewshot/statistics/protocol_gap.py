"""What a query's own recording among the supports is worth: random against source-disjoint episodes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.store import Store
from ..episodes.sources import DISJOINT, RANDOM
from ..errors import FewShotError
from ..evaluate import evaluate_fully
from ..evaluation import Evaluation
from .paired import Difference, paired_difference


@dataclass(frozen=True, eq=False)
class ProtocolGap:
    """One head under both protocols, on the same queries of the same classes. gap: random minus disjoint."""

    random: Evaluation
    disjoint: Evaluation
    gap: Difference

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {RANDOM: self.random.record, DISJOINT: self.disjoint.record, "gap": self.gap.to_json()}


def evaluate_both(store: Store, run: Path | None = None, **settings: Any) -> ProtocolGap:
    """Score a head on random episodes, and on the same ones without shared sources.

    settings: of `evaluate_fully`, but for episodes_from. Raises FewShotError, also where no source is known.
    """
    if settings.get("episode_list") is not None:
        raise FewShotError("an episode list is of one protocol; leave --episodes-from both or --episode-list out")
    # The disjoint list first: it may be refused, and nothing should be scored in vain.
    disjoint = evaluate_fully(store, run, **settings, episodes_from=DISJOINT)
    random = evaluate_fully(store, run, **settings, episodes_from=RANDOM)
    return ProtocolGap(random, disjoint, paired_difference([random.predictions], [disjoint.predictions]))
