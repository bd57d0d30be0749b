"""The runs of a table's rows: trained in groups that share their episodes, and scored."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .cubes.banks import Banks
from .errors import FewShotError, OtherRunError
from .evaluate import evaluate_together
from .evaluation import Evaluation
from .methods.registry import find_method, naming_plugin
from .train import Order, plan_order, train_together
from .training.stream import stream_key


@dataclass
class RowRuns:
    """Runs of the rows of one shot, by name.

    orders: one a seed, for each row; optional: rows that are left out where they cannot be had or fail, instead of
    raising; reasons: of those; trained: whether there was anything to train in a row.
    """

    banks: Banks
    orders: Mapping[str, Sequence[Order]]
    optional: Set[str]
    progress: bool
    reasons: dict[str, FewShotError] = field(default_factory=dict)
    trained: dict[str, bool] = field(default_factory=dict)
    _runs: dict[str, list[Path]] = field(default_factory=dict)
    _groups: dict[object, list[str]] = field(default_factory=dict)  # rows that draw the same training episodes
    _reading_maps: list[str] = field(default_factory=list)

    def train(self) -> None:
        """Train what is not trained yet; rows that draw the same episodes side by side."""
        self._each([[name] for name in self.orders], self._plan, "training")
        self._each(self._groups.values(), self._train, "training")

    def score(self, **how: Any) -> dict[str, tuple[Evaluation, ...]]:
        """The rows that could be trained, scored on one list: an evaluation a run.

        how: keyword arguments of `evaluate_together`. Heads without relation maps to share are scored one by one, so
        that each is kept, and timed, as soon as it is done.
        """
        found: dict[str, tuple[Evaluation, ...]] = {}

        def score(names: Sequence[str]) -> None:
            runs = [run for name in names for run in self._runs[name]]
            scores = iter(evaluate_together(self.banks, runs, again=False, progress=self.progress, **how))
            found.update({name: tuple(next(scores) for _ in self._runs[name]) for name in names})

        together = [name for name in self._runs if name in self._reading_maps]
        alone = [[name] for name in self._runs if name not in self._reading_maps]
        self._each([together, *alone] if together else alone, score, "scoring")
        return found

    def _plan(self, names: Sequence[str]) -> None:
        """Learn whether a row can be had, and what it shares with others."""
        (name,) = names
        plans = [plan_order(self.banks, order) for order in self.orders[name]]
        episodic = plans[0].bank is not None and plans[0].method.episodic
        self._groups.setdefault(tuple(stream_key(p.config) for p in plans) if episodic else name, []).append(name)
        if plans[0].method.reads_maps:
            self._reading_maps.append(name)

    def _train(self, names: Sequence[str]) -> None:
        orders = [order for name in names for order in self.orders[name]]
        summaries = iter(train_together(self.banks, orders, progress=self.progress))
        for name in names:
            ended = [next(summaries) for _ in self.orders[name]]
            self._runs[name], self.trained[name] = [summary.out for summary in ended], ended[0].trained

    def _each(
        self,
        groups: Iterable[Sequence[str]],
        work: Callable[[Sequence[str]], None],
        doing: Literal["training", "scoring"],
    ) -> None:
        """Do the work of each group; where that fails, of each of its rows, to learn whose fault it is."""
        for names in groups:
            try:
                if len(names) == 1:
                    with naming_plugin(self._method(names[0]), doing):
                        work(names)
                else:
                    work(names)
            except Exception as error:
                if len(names) > 1 and any(map(self._telling, names)):
                    self._each([[name] for name in names], work, doing)
                elif self._left_out(names, error) and isinstance(error, FewShotError):
                    self.reasons[names[0]] = error
                else:
                    raise

    def _left_out(self, names: Sequence[str], error: Exception) -> bool:
        return len(names) == 1 and names[0] in self.optional and not isinstance(error, OtherRunError)

    def _telling(self, name: str) -> bool:
        """Whether it matters that a failure is this row's own: it can be left out, or is a plug-in, to be named."""
        return name in self.optional or bool(find_method(self._method(name)).distribution)

    def _method(self, name: str) -> str:
        return self.orders[name][0].settings.get("method", "mastaf")
