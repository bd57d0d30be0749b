"""Search for the settings of a head that are best on the val classes; the test classes are never read."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, cast

from joblib import Parallel, delayed

from ..cache.atomic import remove_leftovers, write_json
from ..cache.console import Progress, say
from ..cache.errors import StoppedError
from ..cache.extras import require_extra
from ..cache.place import StorePath
from ..cache.store import Store, open_store, writer_lock
from ..fewshot.errors import FewShotError
from ..fewshot.methods.registry import load_method
from ..fewshot.train import open_banks, plan_run, train
from ..fewshot.training.plan import TrainSettings
from .errors import PipelineError
from .search_space import search_space
from .sweep_report import BEST, Sweep, read_best, report, values_in_words, write_best
from .sweep_study import Study, Tried, mend_journal

_JOURNAL, _SETTINGS = "optuna.log", "sweep.json"


def sweep(
    features: Sequence[StorePath],
    *,
    space: Mapping[str, str | None],
    adapter: str = "both",
    shots: Sequence[int] = (1,),
    trials: int = 20,
    jobs: int = 1,
    out: Path | None = None,
    device: str = "cpu",
    **fixed: Any,
) -> dict[str, Any]:
    """Train `trials` heads for each shot, `jobs` at once, and write `best.json` into `out`; continues what is there.

    features: stores of the same val videos, whose backbones are compared; space: texts of ranges, by keyword (see
    `search_space`); fixed: keyword arguments of `train` for all trials. Accuracies of different shots cannot be
    compared, so each shot is a search of its own. Returns what `best.json` holds. Raises PipelineError,
    FewShotError, CacheError; StoppedError when a worker was ended by the machine.
    """
    require_extra("optuna", extra="sweep", wanted_by="sweep")
    if fixed.keys() & {"select_on", "val_list"}:
        raise PipelineError("a sweep chooses by its own episodes of the val classes; leave select_on and val_list out")
    stores = _stores(features)
    fixed = {**fixed, "method_keywords": dict(fixed.get("method_keywords") or {})}
    if jobs > 1 and device == "cpu" and all(store.can_be_mapped for store in stores.values()):
        # Processes share mapped files; each would find room in memory for a copy of its own, and all have none.
        fixed.setdefault("bank", "mmap")
    known = load_method(fixed.get("method") or "mastaf").keywords()
    folder = Path(out or Path("runs") / f"sweep_{next(iter(stores.values())).path.stem}")
    dimensions = search_space(space, adapter=adapter, stores=tuple(stores), known=known)
    search = Sweep(folder=folder, space=dimensions, fixed=fixed, device=device, jobs=jobs, seed=fixed.get("seed", 0))
    for shot in shots:
        _check(search, stores, shot)
    folder.mkdir(parents=True, exist_ok=True)
    with writer_lock(folder / "sweep"):
        _enter(search, stores)
        mend_journal(folder / _JOURNAL)
        reasons: dict[str, str] = {}
        for shot in shots:
            say(f"{shot}-shot: {trials} trials, chosen on val")
            study = Study(folder / _JOURNAL, f"{shot}shot", dimensions, seed=search.seed)
            reasons |= _search(search, study, shot, trials)
            report(search, study.trials(), shot)
    return read_best(folder) | {"reasons": reasons}


def _stores(features: Sequence[StorePath]) -> dict[str, Store]:
    """The stores, by their paths as given."""
    stores = {str(path): open_store(path) for path in features}
    if len(stores) < len(features):
        raise PipelineError("--features names a store twice; leave one out")
    return stores


def _check(search: Sweep, stores: Mapping[str, Store], shot: int) -> None:
    """Raise for what would make every trial fail, before the first one starts."""
    seen: dict[str, str] = {}
    settings = cast(TrainSettings, {**search.fixed, "shot": shot})
    for name, store in stores.items():
        plan = plan_run(open_banks(store, settings, device=search.device, say=False), settings)
        if plan.val is None or plan.bank is None:
            raise PipelineError(f"a sweep chooses by what training does for val; {name}: {'; '.join(plan.notes)}")
        seen[plan.config.val_videos] = name
    if len(seen) > 1:
        raise PipelineError(
            f"{' and '.join(seen.values())} hold different val videos, so their accuracies cannot be compared; "
            "extract the same videos with both backbones"
        )


def _enter(search: Sweep, stores: Mapping[str, Store]) -> None:
    """Claim the folder, or accept that of the same sweep."""
    path = search.folder / _SETTINGS
    for name in (_SETTINGS, BEST):
        remove_leftovers(search.folder / name)
    here = {
        "features": {name: store.digest for name, store in stores.items()},
        "space": {name: dimension.to_json() for name, dimension in search.space.items()},
        "settings": {name: value for name, value in search.fixed.items() if name != "bank"},
        "seed": search.seed,
    }
    if not path.is_file():
        write_json(path, here)
        return
    there = json.loads(path.read_text(encoding="utf-8"))
    differing = [name for name in here if json.loads(json.dumps(here[name])) != there.get(name)]
    if differing:
        raise PipelineError(f"{search.folder} holds a sweep with other {', '.join(differing)}; give another --out")


def _search(search: Sweep, study: Study, shot: int, trials: int) -> dict[str, str]:
    """Train until `trials` are answered; reasons of those that failed, by their folders."""
    reasons: dict[str, str] = {}
    done = sum(not trial.open for trial in study.trials())
    if done:
        write_best(search, study.trials(), shot)  # a kill may have come between an answer and what follows from it
    with Progress(trials, f"sweep {shot}-shot", "trials", done=done) as bar:
        while done < trials:
            # A round is asked for as a whole before any of it is answered, so it does not matter who finishes first.
            for _ in range(len(study.trials()), min(trials, (done // search.jobs + 1) * search.jobs)):
                study.ask()
            open_trials = [trial for trial in study.trials() if trial.open]
            for trial, (accuracy, reason) in zip(open_trials, _train_all(search, open_trials, shot), strict=True):
                study.tell(trial.number, accuracy)
                run = search.run(trial.number, shot)
                if accuracy is None:
                    reasons[str(run)] = reason
                said = reason if accuracy is None else f"val {100 * accuracy:.1f} %"
                say(f"{run.name}: {said}; {values_in_words(trial.values)}")
            done += len(open_trials)
            bar.advance(len(open_trials))
            write_best(search, study.trials(), shot)
    return reasons


def _train_all(search: Sweep, trials: Sequence[Tried], shot: int) -> list[tuple[float | None, str]]:
    calls = [
        delayed(_train_one)(
            trial.values["features"],
            search.run(trial.number, shot),
            search.device,
            search.settings(trial.values, shot),
        )
        for trial in trials
    ]
    try:
        found = Parallel(n_jobs=search.jobs)(calls)
    except BrokenProcessPool as error:
        raise StoppedError(f"a worker was ended by the machine ({error}); run again with fewer --jobs") from error
    return cast(list[tuple[float | None, str]], found)


def _train_one(store: str, out: Path, device: str, settings: TrainSettings) -> tuple[float | None, str]:
    """Accuracy on val, or None and the reason; in a process of its own where there are several jobs."""
    try:
        summary = train(open_store(store), out=out, device=device, progress=False, **settings)
    except FewShotError as error:
        return None, str(error)
    return summary.val_accuracy, ""
