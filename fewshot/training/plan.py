"""What a training run will do, settled before anything is written: method, settings, train and val videos."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from ..checkpoint import build_method
from ..cubes.bank import FeatureBank
from ..cubes.banks import Banks
from ..cubes.views import training_views
from ..environment import describe_device, versions
from ..episodes.episode import Episode
from ..episodes.queries import refuse_episodic, scored_queries, training_queries
from ..episodes.sampler import EpisodeSampler
from ..episodes.selection import Selection, choose_selection
from ..errors import FewShotError
from ..methods.base import Method
from ..methods.registry import plugin_code
from ..seeds import check_seeds
from .defaults import resolve_schedule
from .optimisation import Optimisation, check_optimisation
from .run_config import RunConfig


class TrainSettings(Optimisation, total=False):
    """Keyword arguments of `train` that say what is trained; left out or None: the method's or data set's own value.

    Those of `Optimisation` too. select_on: keep the weights that are best on `val` (or `test`, as some published
    protocols do; or `none`: keep the last), by `val_episodes` fixed episodes, or those of the file `val_list`, every
    `val_every` training episodes; patience: stop after so many validations without a better one; allow_partial: use
    what an unfinished extraction has; bank: where cubes stay, see `residence`.
    """

    method: str
    method_keywords: Mapping[str, Any] | None
    way: int
    shot: int
    query_mode: str | None
    queries: int | None
    train_episodes: int | None
    batch: int | None
    seed: int
    val_episodes: int | None
    val_list: Path | None
    val_every: int | None
    patience: int | None
    select_on: str
    allow_partial: bool
    bank: str | None


@dataclass(frozen=True, eq=False)
class TrainPlan:
    """A run about to start. bank, sampler: of the train split, None where nothing is to be trained; val: what selects,
    None where nothing does; notes: lines that the user should see."""

    config: RunConfig
    method: Method
    bank: FeatureBank | None
    sampler: EpisodeSampler | None
    val: Selection | None
    notes: tuple[str, ...]

    @property
    def coverage(self) -> dict[str, Any]:
        """Videos used, failed and missing, of each split that is used."""
        banks = [self.bank, self.val.bank if self.val else None]
        return {bank.split: bank.coverage for bank in banks if bank is not None}


def plan_training(
    banks: Banks,
    *,
    method: str = "mastaf",
    method_keywords: Mapping[str, Any] | None = None,
    way: int = 5,
    shot: int = 1,
    query_mode: str | None = None,
    queries: int | None = None,
    train_episodes: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    val_episodes: int | None = None,
    val_list: Path | None = None,
    val_every: int | None = None,
    patience: int | None = None,
    select_on: str = "val",
    **optimisation: Unpack[Optimisation],
) -> TrainPlan:
    """Check the settings against the store and build the method from `seed`. Raises FewShotError."""
    store = banks.store
    _check_numbers(train_episodes=train_episodes, batch=batch, val_every=val_every, patience=patience)
    _check_numbers(2, val_episodes=val_episodes)
    check_optimisation(optimisation)
    check_seeds(seed)
    torch.manual_seed(seed)
    n_classes = len(store.index.classes_of("train"))
    made = build_method(method, method_keywords or {}, spec=store.spec, n_train_classes=n_classes)
    mode, each = training_queries(method, made, query_mode, queries)
    drawn: dict[str, Any] = {"way": way, "shot": shot, "query_mode": mode, "queries": each}
    scored = drawn | dict(zip(("query_mode", "queries"), scored_queries(made, mode, each), strict=True))
    notes = [note] if (note := made.note()) else []
    bank = sampler = val = None
    if not made.episodic:
        counts = {
            "train_episodes": train_episodes,
            "batch": batch,
            "val_episodes": val_episodes,
            "val_every": val_every,
        }
        drawn_queries = {"query_mode": query_mode, "queries": queries}
        refuse_episodic(method, **counts, patience=patience, episode_list=val_list, **drawn_queries, **optimisation)
        select_on = "none"
    if made.fits or scores_learn(made):
        half = optimisation.get("train_precision") == "bf16"
        bank = _train_bank(banks, torch.bfloat16 if half else torch.float16)
        sampler = EpisodeSampler(keys=bank.keys, classes=bank.classes, split="train", seed=seed, **drawn)
        val = choose_selection(banks, select_on, val_episodes, val_list, scored, notes)
        if patience is not None and val is None:
            raise FewShotError("patience needs a selection on val; leave --patience out")
    else:
        notes.append(f"{method}: no trainable parameter reaches the scores, so training is skipped")
    schedule: dict[str, Any] = asdict(
        resolve_schedule(
            store.header.dataset,
            made.defaults,
            batch=batch,
            episodes=train_episodes,
            val_every=val_every,
            **optimisation,
        )
    )
    if bank is None or not made.episodic:
        schedule["train_episodes"] = 0
    chosen = {"method": method, "seed": seed, "patience": patience, **drawn, **schedule}
    config = _config(banks, made, bank, val, chosen)
    return TrainPlan(config, made, bank, sampler, val, tuple(notes))


def _config(
    banks: Banks,
    method: Method,
    bank: FeatureBank | None,
    val: Selection | None,
    chosen: dict[str, Any],
) -> RunConfig:
    """What was chosen, with what follows from store, method and videos."""
    store, device = banks.store, describe_device(banks.device)
    return RunConfig(
        keywords=method.describe(),
        plugin=plugin_code(chosen["method"]),
        spec=store.spec,
        store=store.digest,
        dataset=store.header.dataset,
        split_scheme=store.header.split_scheme,
        train_classes=tuple(store.index.classes_of("train")),
        train_videos="" if bank is None else bank.digest,
        select_on="none" if val is None else val.bank.split,
        val_videos="" if val is None else val.bank.digest,
        val_episodes=None if val is None else len(val.rows),
        val_list="" if val is None else val.digest,
        views=(0,) if bank is None else bank.views,
        provenance={"versions": versions(), "device": device, "store": str(store.path)},
        **chosen,
    )


def scores_learn(method: Method) -> bool:
    """Whether any trainable parameter reaches the scores.

    Neighbor has a global classifier to train, and training it changes no score; the gradient tells.
    """
    parameters = [p for p in method.parameters() if p.requires_grad]
    if not parameters:
        return False
    shape = method.describe()["cube_shape"]
    ways = torch.arange(2)[None]  # [1, way]
    probe = Episode(torch.rand(1, 2, 1, *shape), torch.rand(1, 2, *shape), ways, ways)
    was_training = method.training
    logits = method.eval()(probe)  # [1, q, way]
    method.train(was_training)
    if not logits.requires_grad:
        return False
    return any(g is not None for g in torch.autograd.grad(logits.sum(), parameters, allow_unused=True))


def _train_bank(banks: Banks, dtype: torch.dtype) -> FeatureBank:
    bank = banks.open("train", views=training_views(banks.store.header), dtype=dtype)
    if not len(bank):
        raise FewShotError(
            f"{banks.store.path} has no train videos to train on; add train classes, or evaluate a head without "
            "parameters (mastaf-fewshot evaluate --variant neighbor)"
        )
    return bank


def _check_numbers(least: int = 1, **numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < least:
            raise FewShotError(f"{name} ({value}) must be at least {least}")


def calibration_cubes(bank: FeatureBank) -> torch.Tensor:
    """Train cubes [n, c, t, h, w], evenly spread over the split: at most 256, and at most 128 MB as float32."""
    shape = bank.store.spec.cube_shape
    count = min(len(bank), 256, max(1, 2**27 // (4 * int(np.prod(shape)))))
    positions = np.linspace(0, len(bank) - 1, count).astype(np.int64)
    return bank.cubes(positions)
