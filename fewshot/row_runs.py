"""The runs of a table's rows: trained in groups that share their episodes, and scored."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cubes.banks import Banks
from .errors import FewShotError
from .evaluate import evaluate_together
from .evaluation import Evaluation
from .train import Order, plan_order, train_together
from .training.stream import stream_key


@dataclass
class RowRuns:
    """Runs of the rows of one shot, by name.

    skip: leave out what cannot be had, and say why, instead of raising; reasons: of the rows that are left out;
    shared: names of rows whose heads read relation maps, which they share when they are scored together.
    """

    banks: Banks
    skip: bool
    progress: bool
    runs: dict[str, list[Path]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)

    def train(self, orders: Mapping[str, Sequence[Order]]) -> None:
        """Train what is not trained yet; rows that draw the same episodes side by side."""
        groups: dict[object, list[str]] = {}
        for name, wanted in orders.items():
            if (key := self._planned(name, wanted)) is not None:
                groups.setdefault(key, []).append(name)

        def train(names: Sequence[str]) -> None:
            summaries = iter(
                train_together(self.banks, [order for name in names for order in orders[name]], progress=self.progress)
            )
            self.runs |= {name: [next(summaries).out for _ in orders[name]] for name in names}

        self._each(groups.values(), train)

    def score(self, **how: Any) -> dict[str, tuple[Evaluation, ...]]:
        """The rows that could be trained, scored on one list: an evaluation a run.

        how: keyword arguments of `evaluate_together`. Heads without relation maps are scored one by one, so that each
        is kept, and timed, as soon as it is done.
        """
        found: dict[str, tuple[Evaluation, ...]] = {}
        together = [name for name in self.runs if name in self.shared]
        alone = [[name] for name in self.runs if name not in self.shared]

        def score(names: Sequence[str]) -> None:
            runs = [run for name in names for run in self.runs[name]]
            scores = iter(evaluate_together(self.banks, runs, again=False, progress=self.progress, **how))
            found.update({name: tuple(next(scores) for _ in self.runs[name]) for name in names})

        self._each([together, *alone] if together else alone, score)
        return found

    def _planned(self, name: str, orders: Sequence[Order]) -> object | None:
        """What rows must have in common to be trained together; None for a row that cannot be had."""
        try:
            plans = [plan_order(self.banks, order) for order in orders]
        except FewShotError as error:
            if not self.skip:
                raise
            self.reasons[name] = str(error)
            return None
        for order, plan in zip(orders, plans, strict=True):
            order.require_free(self.banks.store, plan.config)
        if plans[0].method.reads_maps:
            self.shared.add(name)
        episodic = plans[0].bank is not None and plans[0].method.episodic
        return tuple(stream_key(plan.config) for plan in plans) if episodic else name

    def _each(self, groups: Iterable[Sequence[str]], work: Callable[[Sequence[str]], None]) -> None:
        """Do the work of each group; where that fails, of each of its rows, to learn whose fault it is."""
        for names in groups:
            try:
                work(names)
            except FewShotError as error:
                if not self.skip:
                    raise
                if len(names) == 1:
                    self.reasons[names[0]] = str(error)
                else:
                    self._each([[name] for name in names], work)
