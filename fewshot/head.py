"""A method ready to score, from a run or without one."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..cache.spec import FeatureSpec
from ..cache.store import Store
from .checkpoint import build_method, load_run
from .episodes.queries import scored_queries
from .errors import FewShotError
from .methods.base import Method
from .sharing.fetch import results_folder
from .training.plan import scores_learn
from .training.run_config import run_name

# What a row's name says of a method besides its variant; (keyword, value) -> words.
_SWITCHES = {
    ("meta_learner", False): "no-meta-learner",
    ("residual", False): "no-residual",
    ("global_weight", 0.0): "lambda-0",
}


@dataclass(frozen=True, eq=False)
class Head:
    """A method with what its record says of it.

    folder: where its results go; weights: the run's file that was loaded, None without a run; suffix: of the results'
    names, for weights that are not the run's choice; seed: of training,
    None where nothing was trained; selected_on: `val`, `none` or `test`; trained_on: dataset, split scheme and store
    of the run, train_precision: of its losses, None where no episodes were trained on; way, shot: of its training
    episodes; query_mode, queries: see `scored_queries`.
    """

    method: Method
    name: str
    folder: Path
    weights: Path | None
    seed: int | None
    selected_on: str
    trained_on: dict[str, str] | None
    train_precision: str | None
    train_class_ids: Mapping[str, int]
    way: int
    shot: int
    query_mode: str
    queries: int
    suffix: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """The record's fields on the method."""
        words = self.method.describe()
        return {
            "method": self.name,
            "variant": variant_name(words),
            "preset": words.get("preset"),
            "adapter": bool(words.get("adapter")),
            "seed": self.seed,
            "selected_on": self.selected_on,
            "trained_on": self.trained_on,
            "train_precision": self.train_precision,
        }


def find_head(
    store: Store,
    run: Path | None,
    method: str | None,
    keywords: Mapping[str, Any],
    *,
    way: int,
    shot: int,
    device: torch.device,
) -> Head:
    """The head of a run, or without one that of a method and its keywords.

    Raises FewShotError, also where the run is of another method, and SpecMismatchError.
    """
    if run is None:
        return head_without_run(method or "mastaf", keywords, store, way=way, shot=shot, device=device)
    if keywords:
        raise FewShotError("a checkpoint fixes the method: give a checkpoint, or a method with its options, not both")
    head = head_of_run(Path(run), store, device=device)
    if method not in (None, head.name):
        raise FewShotError(
            f"checkpoint {run} is of method '{head.name}', but method '{method}' was asked for; leave --method out, or "
            f"train '{method}' first"
        )
    return head


def head_of_run(path: Path, store: Store, *, device: torch.device) -> Head:
    """The head of a run's folder or weights file. Raises FewShotError, SpecMismatchError."""
    run = load_run(path, store, device=device)
    config = run.config
    query_mode, queries = scored_queries(run.method, config.query_mode, config.queries)
    return Head(
        method=run.method,
        name=config.method,
        folder=results_folder(run.folder),
        weights=run.weights,
        seed=config.seed,
        selected_on=run.selected_on,
        trained_on={name: getattr(config, name) for name in ("dataset", "split_scheme", "store")},
        # Only losses of episodes have a precision; a table must not tell rows apart by one that nothing was done in.
        train_precision=config.train_precision if config.train_episodes else None,
        train_class_ids=config.train_class_ids,
        way=config.way,
        shot=config.shot,
        query_mode=query_mode,
        queries=queries,
        suffix="" if path.is_dir() else f"_{path.stem}",
    )


def head_without_run(
    name: str, keywords: Mapping[str, Any], store: Store, *, way: int, shot: int, device: torch.device
) -> Head:
    """A head that needs no training, for 5-way 1-shot episodes with a single query unless told otherwise.

    Raises FewShotError for a head with parameters that training must set.
    """
    method = untrained_method(name, keywords, store.spec, features=shlex.quote(str(store.path)))
    return Head(
        method=method.to(device),
        name=name,
        folder=Path("runs") / run_name(store.path.stem, name, dict(keywords), way=way, shot=shot),
        weights=None,
        seed=None,
        selected_on="none",
        trained_on=None,
        train_precision=None,
        train_class_ids={},
        way=way,
        shot=shot,
        query_mode="single",
        queries=1,
    )


def untrained_method(name: str, keywords: Mapping[str, Any], spec: FeatureSpec, *, features: str) -> Method:
    """A method for cubes of a recipe whose scores need no training. features: what it could be trained on, in words.

    Raises FewShotError for one with parameters that training must set.
    """
    with torch.random.fork_rng(devices=[]):
        # No train classes: a global classifier would be trained for nothing.
        method = build_method(name, keywords, spec=spec, n_train_classes=0)
        if method.fits or scores_learn(method):
            variant = variant_name(method.describe())
            raise FewShotError(
                f"the scores of {name}{f' ({variant})' if variant else ''} depend on parameters that must be trained; "
                f"give the --checkpoint of a run of: mastaf-fewshot train --features {features} "
                f"--method {name}"
                + (", or take the head without parameters (--variant neighbor)" if name == "mastaf" else "")
            )
    return method


def keywords_of(variant: str | None) -> dict[str, Any]:
    """The keywords that a record's variant stands for: the inverse of `variant_name`."""
    name, *off = (variant or "").split("/")
    switches = {words: dict([pair]) for pair, words in _SWITCHES.items()}
    found: dict[str, Any] = {"variant": name} if name else {}
    for words in off:
        found |= switches.get(words, {})
    return found


def variant_name(words: Mapping[str, Any]) -> str | None:
    """The variant in a method's description, and what is switched off: `full`, `full/no-residual`; None without."""
    variant = words.get("variant")
    off = [text for (keyword, value), text in _SWITCHES.items() if keyword in words and words[keyword] == value]
    return "/".join([variant, *off]) if isinstance(variant, str) else None
