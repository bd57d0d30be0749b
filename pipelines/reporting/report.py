"""`mastaf report`: everything below a folder of runs, as one page that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...cache.atomic import write_bytes
from ...cache.place import StorePath
from ...cache.store import Store
from ...cache.versions import versions_of
from ...fewshot.episodes.episode_list import read_episode_list
from ...fewshot.statistics.found_records import Found, Refused, find_records
from ...fewshot.training.run_config import RunConfig
from ..errors import PipelineError
from ..own_videos.writable import require_writable
from .blocks import Block, build_block, grouped, head_name
from .commands import UNKNOWN_RUN, UNKNOWN_STORE
from .curves import Score, learning_curves, shots_and_ways
from .kinds import MOST_KINDS, KindPair, compare_kinds, corrected
from .page import markup, page, render
from .pictures import Videos
from .stores import find_stores
from .trained_runs import MOST_RUNS, TrainedRun, find_runs
from .trouble import MOST_PICTURES, mistakes_of
from .views import MOST_DETAIL, Room, provenance_of, view_block, view_run

MOST_RECORDS, MOST_BYTES = 1000, 20_000_000
MISTAKES = 6


@dataclass(eq=False)
class _Gathered:
    """What the page will show, as it comes."""

    refused: list[Refused]
    blocks: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    kinds: list[KindPair] = field(default_factory=list)
    provenance: list[dict[str, Any]] = field(default_factory=list)
    detail: Room = field(default_factory=lambda: Room(MOST_DETAIL))
    pictures: Room = field(default_factory=lambda: Room(MOST_PICTURES))


def make_report(
    runs: Path,
    *,
    out: Path | None = None,
    features: Sequence[StorePath] = (),
    root: Path | None = None,
    lists: Sequence[Path] = (),
    mistakes: int = MISTAKES,
    frames: bool = True,
) -> dict[str, Any]:
    """Write the page of the results and training runs below `runs` to `out` (runs/report.html); what was done.

    features: stores that results may be of, besides those that are found; root: where their videos are, else where
    they were; lists: files of episodes that were scored; mistakes: shown of one head a table; frames: show pictures
    of videos. Files that are no results are named there. Raises PipelineError where that is nothing, or too much.
    """
    records, refused = find_records(runs)
    trained, broken = find_runs(runs)
    refused = [*refused, *broken]
    _require_something(runs, records, trained, refused)
    require_writable(target := out or runs / "report.html")
    named = [run.config.provenance.get("store") for run in trained if run.config is not None]
    stores, useless = find_stores({r.record.store for r in records}, given=features, root=runs, named=named)
    found = _Gathered(refused)
    groups = grouped(records)
    numbers = {one.path: number for number, one in enumerate((r for group in groups for r in group), 1)}
    videos = {digest: Videos(store, root) for digest, store in stores.items()} if frames else {}
    known = {read_episode_list(path).sha256: path for path in lists}
    for family in _families(groups):
        _add_family(found, family, stores, videos, numbers, lists=known, runs=runs, mistakes=mistakes)
    text = _page(found, runs, trained, useless, n_records=len(records), n_stores=len(stores))
    return {
        "out": str(target),
        "bytes": _write(target, text.encode(), runs),
        "results": len(found.provenance),
        "tables": len(found.blocks),
        "training_runs": len(trained),
        "stores": {digest: str(store.path) for digest, store in stores.items()},
        "refused": [{"path": str(one.path), "reason": one.reason} for one in found.refused],
    }


def _write(target: Path, data: bytes, runs: Path) -> int:
    """Write the page, unless it is too large; its bytes."""
    if len(data) > MOST_BYTES:
        raise PipelineError(
            f"a page of {runs} would have {len(data) / 1e6:.0f} MB, and at most {MOST_BYTES / 1e6:.0f} are written; "
            "give --runs a part of it"
        )
    write_bytes(target, data)
    return len(data)


def _require_something(
    runs: Path, records: Sequence[Found], trained: Sequence[TrainedRun], refused: Sequence[Refused]
) -> None:
    if not records and not trained:
        why = f", and {len(refused)} files that are none ({refused[0].reason})" if refused else ""
        raise PipelineError(
            f"{runs} holds no results and no training runs{why}; make some with mastaf-fewshot evaluate or mastaf "
            "demo, or give --runs the folder that has them"
        )
    for what, count, most in (("results", len(records), MOST_RECORDS), ("training runs", len(trained), MOST_RUNS)):
        if count > most:
            raise PipelineError(f"{runs} holds {count} {what}, and a page shows at most {most}; give --runs a part")


def _families(groups: Sequence[list[Found]]) -> list[list[tuple[int, list[Found]]]]:
    """Numbered groups, those of one list of episodes together: so many predictions are in memory at once."""
    families: dict[str, list[tuple[int, list[Found]]]] = {}
    for number, group in enumerate(groups, 1):
        families.setdefault(group[0].record.episode_list, []).append((number, group))
    return list(families.values())


def _add_family(
    found: _Gathered,
    family: Sequence[tuple[int, list[Found]]],
    stores: Mapping[str, Store],
    videos: Mapping[str, Videos],
    numbers: Mapping[Path, int],
    *,
    lists: Mapping[str, Path],
    runs: Path,
    mistakes: int,
) -> None:
    views = []
    for number, group in family:
        block, refused = build_block(group, runs)
        found.refused += refused
        if block is None:
            continue
        digest = block.record["store"]
        view = view_block(number, block, stores.get(digest), numbers, found.detail)
        if mistakes:
            here = (stores.get(digest), videos.get(digest))
            view.mistakes = mistakes_of(block, *here, lists=lists, count=mistakes, room=found.pictures)
        views.append(view)
        shown = {"number": number, "html": markup(render("block.html", view=view))}
        shown |= {"title": view.title, "base": view.base, "heads": len(view.rows), "n": view.block.record["episodes"]}
        found.blocks.append((number, shown))
        for row in block.rows:
            scored = row.compared
            found.scores.append(
                Score(view.cubes, head_name(row.record), row.record, scored.accuracy, scored.ci95_clustered)
            )
        lies_in = _runs_by_record(block)
        found.provenance += [
            provenance_of(one, numbers[one.path], lies_in[one.path], stores.get(digest), lists=lists, root=runs)
            for one in group
            if one.path in lies_in
        ]
    found.kinds += compare_kinds(views)


def _runs_by_record(block: Block) -> dict[Path, tuple[Path | None, RunConfig | None]]:
    """The run and its settings behind each record of a block, by the record's path."""
    pairs = [pair for row in block.rows for pair in zip(row.compared.scored, row.runs, strict=False)]
    return {scored.path: run for scored, run in pairs}


def counted(count: int, what: str) -> str:
    """`1 result`, `2 results`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _said(
    found: _Gathered, runs: Path, useless: Sequence[StorePath], *, n_records: int, n_runs: int, n_stores: int
) -> list[str]:
    """Sentences on what was read, and what is not on the page."""
    read = f"{counted(n_records, 'result file')}, {counted(n_runs, 'training run')}"
    said = [f"{read} and {counted(n_stores, 'store')} of cubes were read for {runs}."]
    said += [f"{counted(len(found.refused), 'file')} left out, named below."] if found.refused else []
    over = len(found.kinds) - MOST_KINDS
    said += [f"{counted(over, 'pair')} of cubes left out of their table."] if over > 0 else []
    said += [f"No result is of {path}, which was given." for path in useless]
    lost = found.detail.left_out + found.pictures.left_out
    said += [f"{lost} parts were left out to keep the page small; report fewer runs to see them."] if lost else []
    return said


def _page(
    found: _Gathered,
    runs: Path,
    trained: Sequence[TrainedRun],
    useless: Sequence[StorePath],
    *,
    n_records: int,
    n_stores: int,
) -> str:
    curves, left_out = learning_curves(trained)
    blocks = [shown for _, shown in sorted(found.blocks, key=lambda pair: pair[0])]
    said = _said(found, runs, useless, n_records=n_records, n_runs=len(trained), n_stores=n_stores)
    summary = (
        "Every accuracy stands with its 95 % interval and the number of episodes it is of; tables can be sorted by a "
        "click on a column's name."
        if blocks
        else "No results yet: these runs were trained, but not scored on test. mastaf-fewshot evaluate does that."
    )
    return page(
        title=f"Results in {runs.resolve().name}",
        summary=summary,
        date=datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00") + " UTC",
        version=versions_of("mastaf")["mastaf"],
        made_of=said,
        refused=found.refused,
        blocks=blocks,
        shots_ways=shots_and_ways(found.scores),
        kinds=corrected(found.kinds)[:MOST_KINDS],
        runs=[view_run(run) for run in trained],
        curves=curves,
        curves_left_out=left_out,
        provenance=sorted(found.provenance, key=lambda one: one["number"]),
        unknown=f"{UNKNOWN_STORE} or {UNKNOWN_RUN}",
    )
