"""From videos to the table of feature kinds in one command: tune, extract, and compare heads on every kind of cubes.

    frozen            cubes of the weights that tuning began with
    frozen+adapter    the same, with an adapter trained in front of each head
    base-tuned        of the backbone after the recipe classify
    episodic          of the backbone after the recipe episodic

Heads are trained on each kind's cubes and answer the same test episodes, so each head is compared between kinds pair by
pair. A table of one kind alone, with its pairs of heads, is that of `mastaf-fewshot ablate`, in the kind's folder.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from ...cache import console
from ...cache.atomic import write_bytes, write_json
from ...cache.console import unknown_name
from ...cache.store import Store, open_store
from ...extract.datasets.by_name import find_dataset
from ...extract.run import extract
from ...fewshot.ablate import ablate_fully
from ...fewshot.evaluate import evaluate_fully
from ...fewshot.statistics.comparison import ComparedPair, ComparedRow, compared_row
from ...fewshot.statistics.paired import paired_difference
from ...fewshot.statistics.significance import holm
from ...fewshot.statistics.table import interval, pairs_table, percent
from ..errors import PipelineError
from ..outputs import default_folder
from .finetune import finetune, options_of, refuse_unknown
from .results import HEAD_FOLDER
from .running import loader

THEN = ("extract", "ablate")
KINDS = {"classify": "base-tuned", "episodic": "episodic"}
FROZEN, ADAPTER, TOGETHER = "frozen", "frozen+adapter", "trained together"


def finetune_then(
    *,
    recipes: Sequence[str],
    then: Sequence[str],
    out: Path | None = None,
    test_episodes: int = 10_000,
    head_episodes: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fine-tune by each of the recipes into OUT/<recipe>, extract the cubes of the weights before and after into
    OUT/cubes, and with `ablate` compare Neighbor, Self, Cross and full on each kind: OUT/kinds.json and OUT/kinds.md.

    then: `extract`, or `extract` and `ablate`; test_episodes: of the comparison; head_episodes: that a head is trained
    on, None as published; options: of the recipes, see `finetune`. Everything continues what an earlier run left.
    Returns a summary of plain values.
    """
    _check(recipes, then)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise PipelineError("then must run in one process; tune under torchrun without it, and give it after that")
    refuse_unknown(recipes, options)
    options = {name: value for name, value in options.items() if value is not None}
    name, root = options.get("dataset", "motion"), options.get("root")
    out = out or default_folder(name, root, options.get("backbone", "r3d-tiny")).with_name(f"{name}_kinds")
    tuned = {}
    for recipe in recipes:
        console.say(f"[tune] {recipe}")
        tuned[recipe] = finetune(recipe=recipe, out=out / recipe, **options_of(recipe, options))
    stores = _extract(out / "cubes", tuned, options)
    summary = {"out": str(out), "tuned": tuned, "stores": {kind: str(store.path) for kind, store in stores.items()}}
    if "ablate" in then:
        drawn = {k: options[k] for k in ("way", "query_mode", "queries") if k in options}
        how = {**drawn, "shots": (options.get("shot", 1),), "episodes": test_episodes, "seed": options.get("seed", 0)}
        rows = _ablate(out, stores, how | {"train_episodes": head_episodes})
        summary |= _report(out, rows)
    return summary


def _check(recipes: Sequence[str], then: Sequence[str]) -> None:
    for step in then:
        if step not in THEN:
            raise PipelineError(unknown_name("step of then", step, THEN))
    if "extract" not in then:
        raise PipelineError(f"then ({','.join(then)}) must begin with extract: heads are compared on cubes")
    for recipe in recipes:
        if recipe not in KINDS:
            raise PipelineError(f"recipe ({recipe}) must be of {', '.join(KINDS)} with --then")


def _extract(folder: Path, tuned: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]) -> dict[str, Store]:
    """The store of each kind, at the precision of the tuning."""
    first = next(iter(tuned.values()))
    asked = {name: options.get(name) for name in ("root", "split_files")}
    videos = find_dataset(
        options.get("dataset", "motion"),
        **asked,
        seed=options.get("seed", 0),
        follow_links=options.get("follow_links", False),
    )
    how = {name: options[name] for name in ("frames", "size", "resize", "time", "seed", "revision") if name in options}
    load = loader(first["backbone"], **how)
    weights = {FROZEN: options.get("weights"), **{KINDS[recipe]: found["weights"] for recipe, found in tuned.items()}}
    stores = {}
    for kind, wanted in weights.items():
        console.say(f"[extract] {kind}")
        base, path = load(wanted), folder / f"{kind}.zarr"
        path.parent.mkdir(parents=True, exist_ok=True)
        how = {"precision": first["options"]["precision"], "device": options.get("device", "auto")}
        extract(videos, base, out=path, workers=options.get("workers"), **how)
        stores[kind] = open_store(path)
    return stores


def _ablate(out: Path, stores: Mapping[str, Store], how: dict[str, Any]) -> list[tuple[str, ComparedRow]]:
    """(kind, row) for every head on every kind, on the same episodes."""
    rows: list[tuple[str, ComparedRow]] = []
    given = {name: value for name, value in how.items() if value is not None}
    for kind, store in stores.items():
        for name, keywords in ((kind, {}), (ADAPTER, {"adapter": True})) if kind == FROZEN else ((kind, {}),):
            console.say(f"[ablate] {name}")
            found = ablate_fully(store, out=out / "tables" / name, method_keywords=keywords, **given)
            rows += [(name, row) for row in found.rows]
    if "episodic" in stores:
        shot, way = given["shots"][0], given.get("way")
        scored = evaluate_fully(
            stores["episodic"], out / "episodic" / HEAD_FOLDER, shot=shot, way=way, episodes=given["episodes"]
        )
        rows.append(("episodic", compared_row(TOGETHER, [scored])))
    return rows


def _report(out: Path, rows: Sequence[tuple[str, ComparedRow]]) -> dict[str, Any]:
    """Write and show the table of kinds, and each head's pairs of kinds, Holm-corrected over all of them."""
    pairs = _pairs(rows)
    kinds, heads = (list(dict.fromkeys(part)) for part in (
        [kind for kind, _ in rows], [row.name for _, row in rows]
    ))  # fmt: skip
    cell = {(kind, row.name): row for kind, row in rows}
    first = rows[0][1].record
    title = (
        f"{first['way']}-way {first['shot']}-shot accuracy in % on {first['split']}, {first['episodes']} episodes, the "
        f"same for all: +- 95 % half width over episodes, and the interval clustered by class and video"
    )
    lines = [[kind, *(_cell(cell.get((kind, head))) for head in heads)] for kind in kinds]
    text = "\n\n".join([title, console.table(lines, ["features", *heads]), pairs_table(pairs)])
    console.say("\n" + text)
    table = [
        {"features": kind, "row": row.name, "accuracy": row.accuracy, "ci95": row.ci95}
        | {"ci95_clustered": list(row.ci95_clustered), "paths": [str(path) for path in row.paths]}
        for kind, row in rows
    ]
    compared = [
        {"first": pair.first, "second": pair.second, "shot": pair.shot, **pair.difference.to_json()} for pair in pairs
    ]
    found = {"title": title, "kinds": table, "pairs": compared}
    write_json(out / "kinds.json", found)
    write_bytes(out / "kinds.md", (text + "\n").encode())
    return found


def _pairs(rows: Sequence[tuple[str, ComparedRow]]) -> list[ComparedPair]:
    """Each head on two kinds of features: the later one minus the earlier."""
    found = []
    for (kind, row), (other, second) in combinations(rows, 2):
        if row.name == second.name:
            answers = [[scored.predictions for scored in one.scored] for one in (second, row)]
            names = (f"{row.name}: {other}", kind)
            found.append(ComparedPair(*names, row.shot, paired_difference(*answers)))
    corrected = holm([pair.difference.p for pair in found])
    return [
        ComparedPair(pair.first, pair.second, pair.shot, pair.difference.corrected(p))
        for pair, p in zip(found, corrected, strict=True)
    ]


def _cell(row: ComparedRow | None) -> str:
    return "" if row is None else f"{percent(row.accuracy, row.ci95)} {interval(*row.ci95_clustered)}"
