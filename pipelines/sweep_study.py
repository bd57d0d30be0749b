"""The search of a sweep for one shot: which settings to try next, kept by Optuna in a journal that survives a kill."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache.atomic import write_bytes
from .search_space import Dimension


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A trial. number: its place in the sweep; values: the settings tried; accuracy: on val, None where it failed or
    is not finished; failed: whether it ended without one."""

    number: int
    values: dict[str, Any]
    accuracy: float | None
    failed: bool

    @property
    def open(self) -> bool:
        """Asked for and not answered yet."""
        return self.accuracy is None and not self.failed


class Study:
    """Trials of one shot, in the journal file of the sweep, which has one writer.

    What is asked next is a function of the seed and of the trials that are answered: Optuna's tree-structured Parzen
    estimator (Bergstra et al., NIPS 2011), seeded anew for each trial, so that a sweep that was stopped goes on as it
    would have.
    """

    def __init__(self, journal: Path, name: str, space: Mapping[str, Dimension], *, seed: int) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._seed, self._name = optuna, seed, name
        self._distributions = {key: dimension.distribution() for key, dimension in space.items()}
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
        self._ids: list[int] = []  # Optuna's numbers of our trials
        self._read()

    def _read(self) -> None:
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False):
            if set(trial.params) == set(self._distributions):
                self._ids.append(trial.number)
            elif trial.state == states.RUNNING:
                # Killed while it was being asked for: nothing was trained, and the next one takes its place.
                self._study.tell(trial.number, state=states.FAIL)

    def trials(self) -> list[Tried]:
        """All trials, in the order in which they were asked for."""
        states = self._optuna.trial.TrialState
        found = self._study.get_trials(deepcopy=False)
        return [
            Tried(
                number=number,
                values=dict(found[key].params),
                accuracy=found[key].value if found[key].state == states.COMPLETE else None,
                failed=found[key].state == states.FAIL,
            )
            for number, key in enumerate(self._ids)
        ]

    def ask(self) -> None:
        """Decide on one more trial."""
        text = f"mastaf sweep {self._seed} {self._name} {len(self._ids)}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
        self._ids.append(self._study.ask(self._distributions).number)

    def tell(self, number: int, accuracy: float | None) -> None:
        """Answer a trial with its accuracy on val; None: it failed."""
        state = self._optuna.trial.TrialState.FAIL if accuracy is None else None
        self._study.tell(self._ids[number], accuracy, state=state)


def mend_journal(journal: Path) -> None:
    """Undo what a killed writer left: a last line cut short, and its lock. For the one writer."""
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if journal.is_file():
        data = journal.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            write_bytes(journal, whole)
