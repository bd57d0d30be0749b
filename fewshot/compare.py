"""Methods side by side: trained with their own defaults, tested on the same episodes, on one store or several."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..cache.store import Store
from .checkpoint import build_method, read_train_summary
from .errors import FewShotError
from .flops import query_flops
from .methods.registry import find_method, method_names
from .rows import Row, run_rows, split_settings
from .statistics.comparison import ComparedRow, Comparison
from .statistics.published import Published, find_published

ALL = "all"
REFERENCE = "mastaf"
# Nothing of it is trained: what the cubes give by themselves, which every head should be held against.
NEIGHBOR = f"{REFERENCE}:neighbor"


@dataclass(frozen=True)
class Cost:
    """What a row costs. parameters: trained ones; flops: of one query with its supports, see `count_flops`;
    episodes_per_s: scored, when that was done; published: the paper's number for it, None where there is none."""

    parameters: int
    flops: int
    episodes_per_s: float
    published: Published | None


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one store. name: of the store; costs: by name and shot of a row."""

    name: str
    store: Store
    compared: Comparison
    costs: dict[tuple[str, int], Cost]

    def cost(self, row: ComparedRow) -> Cost:
        """Those of a row."""
        return self.costs[row.name, row.shot]


def compare(
    stores: Sequence[Store], *, methods: Sequence[str] = (ALL,), out: Path | None = None, **settings: Any
) -> list[Block]:
    """Train every method, score them all on the same episodes, and compare each with MASTAF; a block a store.

    methods: names, `NAME:VARIANT` for a variant, or `all`, which leaves out what cannot be had on a store and says
    why; settings: of `train`, over every method's own, and those of `Scored`. Where MASTAF is not among the methods
    the first one takes its place. Runs lie in `out/STORE/` (`runs/compare_STORE`); what is there is used again.
    Raises FewShotError.
    """
    for fixed in ("shot", "method", "method_keywords"):
        if settings.get(fixed):
            raise FewShotError(f"the rows of a comparison decide {fixed} themselves; leave it out")
    rows = rows_of(methods)
    trained, asked = split_settings(settings)
    names = _names(stores)
    folder = folder_of(stores, out)
    base = REFERENCE if any(row.name == REFERENCE for row in rows) else rows[0].name
    blocks = []
    for name, store in zip(names, stores, strict=True):
        how = {"folder": folder / name, "base": base, "every_pair": False}
        compared = run_rows(store, rows, trained, **how, **asked)
        made = {row.name: row for row in rows}
        costs = {(row.name, row.shot): _cost(store, made[row.name], row) for row in compared.rows}
        blocks.append(Block(name, store, compared, costs))
    return blocks


def folder_of(stores: Sequence[Store], out: Path | None) -> Path:
    """Where runs and tables of a comparison lie."""
    return Path(out or Path("runs") / "_".join(["compare", *_names(stores)]))


def rows_of(methods: Sequence[str]) -> list[Row]:
    """The rows of names; those of `all` are optional. Raises FewShotError for an unknown name, or one given twice."""
    rows = [row for name in methods for row in (_every_row() if name == ALL else [_row(name)])]
    names = [row.name for row in rows]
    if not names:
        raise FewShotError(f"methods must be {ALL}, or names separated by commas")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FewShotError(f"method '{twice[0]}' is named twice; leave one out")
    return rows


def everything() -> list[str]:
    """The rows of `all`: MASTAF, then Neighbor, which has nothing to train, then all other methods."""
    return [REFERENCE, NEIGHBOR, *(name for name in method_names() if name != REFERENCE)]


def _every_row() -> list[Row]:
    # Not looked up: a name that two distributions bring is a row that cannot be had.
    return [replace(_row(name, known=True), optional=True) for name in everything()]


def _row(name: str, *, known: bool = False) -> Row:
    method, colon, variant = name.partition(":")
    if not known:
        find_method(method)
    if colon and not variant:
        raise FewShotError(f"method '{name}' must be NAME or NAME:VARIANT, such as {NEIGHBOR}")
    return Row(name=name, method=method, keywords={"variant": variant} if variant else {})


def _names(stores: Sequence[Store]) -> list[str]:
    """A name for each store: its file's, with its digest where two have the same."""
    if not stores:
        raise FewShotError("give at least one store")
    digests = [store.digest for store in stores]
    again = [store for number, store in enumerate(stores) if store.digest in digests[:number]]
    if again:
        raise FewShotError(f"store {again[0].path} is named twice, or is a copy of another one; leave it out")
    stems = [store.path.stem for store in stores]
    return [
        stem if stems.count(stem) == 1 else f"{stem}_{store.digest[:8]}"
        for stem, store in zip(stems, stores, strict=True)
    ]


def _cost(store: Store, made: Row, row: ComparedRow) -> Cost:
    """What a row costs, and what the paper has for it."""
    record, summary = row.record, read_train_summary(row.paths[0].parent.parent)
    with torch.random.fork_rng(devices=[]):
        classes = len(store.index.classes_of("train"))
        method = build_method(made.method, made.keywords, spec=store.spec, n_train_classes=classes)
        flops = query_flops(method, way=record["way"], shot=record["shot"])
    return Cost(
        parameters=method.n_trainable() if summary is not None and summary.trained else 0,
        flops=flops,
        episodes_per_s=len(row.scored) / sum(1 / found.episodes_per_s for found in row.scored),
        published=find_published(record),
    )
