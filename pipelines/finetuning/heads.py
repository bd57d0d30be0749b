"""The head that is trained with a network: new or that of a run, its episodes, and the run that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.spec import FeatureSpec
from ...extract.backbones.base import Backbone
from ...extract.recipe import make_spec
from ...fewshot.checkpoint import build_method, load_run_for
from ...fewshot.episodes.queries import scored_queries, training_queries
from ...fewshot.episodes.sampler import EpisodeSampler
from ...fewshot.episodes.selection import VAL_LIST_SEED
from ...fewshot.methods.base import Method
from ...fewshot.training.defaults import VAL_EPISODES
from ...fewshot.training.run_config import read_config
from ..errors import PipelineError

SELECT_ON = ("val", "none")


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """A head to be trained. name, keywords: of the method; drawn: way, shot, query_mode and queries of its training
    episodes, scored: of those that select."""

    name: str
    method: Method
    drawn: dict[str, Any]
    scored: dict[str, Any]


def plan_head(
    base: Backbone,
    train_classes: list[str],
    *,
    method: str,
    keywords: Mapping[str, Any],
    start: Path | None,
    way: int,
    shot: int,
    query_mode: str | None,
    queries: int | None,
) -> HeadPlan:
    """A new head by torch's random state, or with `start` that of a run on cubes of these very weights."""
    spec = live_spec(base, "fp32")
    if start is None:
        found = build_method(method, keywords, spec=spec, n_train_classes=len(train_classes))
    else:
        method, found = _head_of_run(start, base, train_classes)
    if not found.episodic:
        raise PipelineError(f"method ('{method}') is not trained by episodes, so no network can be trained with it")
    mode, each = training_queries(method, found, query_mode, queries)
    drawn: dict[str, Any] = {"way": way, "shot": shot, "query_mode": mode, "queries": each}
    scored = drawn | dict(zip(("query_mode", "queries"), scored_queries(found, mode, each), strict=True))
    return HeadPlan(method, found, drawn, scored)


def live_spec(base: Backbone, precision: str) -> FeatureSpec:
    """The recipe of cubes that extraction would make of a network: one plain view."""
    return make_spec(base, views=("plain",), sampling="even", precision=precision)


def _head_of_run(run: Path, base: Backbone, train_classes: list[str]) -> tuple[str, Method]:
    """Name and method of a run, refused unless it was trained on cubes of this network and these classes."""
    config = read_config(run if run.is_dir() else run.parent)
    there = config.spec
    # What only concerns how cubes were stored, or which views there were, is no other network.
    spec = make_spec(
        base, views=there.views, sampling=there.sampling, precision=there.precision, store_dtype=there.dtype
    )
    found = load_run_for(run, spec, f"backbone '{base.name}' with its weights")
    if list(config.train_classes) != train_classes:
        raise PipelineError(
            f"head ({run}) was trained on {len(config.train_classes)} classes that are not the {len(train_classes)} "
            "train classes here; give a run on this data set"
        )
    return config.method, found.method


def selecting_episodes(
    keys: tuple[str, ...], classes: tuple[str, ...], count: int | None, scored: Mapping[str, Any]
) -> Any:
    """The fixed val episodes that select, those of stage two."""
    sampler = EpisodeSampler(keys=keys, classes=classes, split="val", seed=VAL_LIST_SEED, **scored)
    return sampler.rows(0, count or VAL_EPISODES)


def selects(select_on: str, val_classes: list[str], way: int, notes: list[str]) -> bool:
    """Whether val selects; a note says where it cannot. Test is never looked at."""
    if select_on not in SELECT_ON:
        raise PipelineError(f"select_on ('{select_on}') must be one of {', '.join(SELECT_ON)}")
    if select_on == "val" and len(val_classes) < way:
        have = (
            f"{len(val_classes)} val classes are fewer than way ({way})" if val_classes else "there are no val classes"
        )
        notes.append(f"{have}: nothing is selected, the last weights are kept")
        return False
    return select_on == "val"
