"""What the page says of its parts, as the templates take it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...cache.store import Store
from ...fewshot.statistics.found_records import Found
from ...fewshot.statistics.pretraining import pretraining_lines
from ...fewshot.training.run_config import RunConfig
from .blocks import Block, BlockRow
from .commands import UNKNOWN_STORE, evaluate_command, train_command
from .figures import figures_of
from .page import markup, render
from .stores import words_of_place
from .trained_runs import TrainedRun

MOST_DETAIL = 5_000_000  # characters of all charts and tables of classes


@dataclass
class Room:
    """Characters that are left for some kind of part."""

    left: int
    left_out: int = 0

    def take(self, text: str) -> str:
        """The text, or '' where it is too long for what is left."""
        if len(text) > self.left:
            self.left_out += 1
            return ""
        self.left -= len(text)
        return text


@dataclass(frozen=True, eq=False)
class RowView:
    """A row of a block's table. id: its anchor; records: their numbers in the provenance; detail: markup."""

    row: BlockRow
    id: str
    records: list[int]
    detail: Any


@dataclass(eq=False)
class BlockView:
    """A block as the page has it. cubes: words for them; mistakes: markup."""

    number: int
    block: Block
    cubes: str
    title: str
    said: str
    queries: str
    rows: list[RowView] = field(default_factory=list)
    mistakes: Any = ""

    @property
    def has_spread(self) -> bool:
        """Whether any row was trained with several seeds."""
        return any(view.row.compared.spread is not None for view in self.rows)

    @property
    def has_notes(self) -> bool:
        """Whether there is anything to note of any row."""
        return any(view.row.notes for view in self.rows)

    @property
    def base(self) -> BlockRow:
        """The row that the others are shown against."""
        return next(row for row in self.block.rows if row.title == self.block.base)


def cubes_words(record: Mapping[str, Any], store: Store | None) -> str:
    """Whose cubes, in few words: `motion by r3d-tiny, recipe 1a2b3c4d`."""
    words = [f"{record['dataset']} by {record['backbone']}"]
    words += ["with random weights"] if record["random_weights"] else []
    words += ["and an adapter"] if record["adapter"] else []
    if store is not None and store.spec.sampling != "even":
        words.append(f"with {store.spec.sampling} frames")
    half = "" if record["precision"] == "fp32" else f", {record['precision']}"
    place = "" if store is None else f" ({store.path.name})"
    return f"{' '.join(words)}, recipe {record['recipe'][:8]}{place}{half}"


def view_block(number: int, block: Block, store: Store | None, numbers: Mapping[Path, int], room: Room) -> BlockView:
    """The block without its mistakes. numbers: of records in the provenance, by path."""
    r = block.record
    answers = block.rows[0].predictions
    queries = f"{len(answers.query_row):,}"
    drawn = "" if r["episodes_from"] == "random" else f", {r['episodes_from']}"
    drawn += f", {r['queries']} queries a class" if r["query_mode"] == "per_class" else ""
    cubes = cubes_words(r, store)
    title = f"{r['way']}-way {r['shot']}-shot on {r['split']}{drawn}: {cubes}"
    said = (
        f"n = {r['episodes']:,} episodes with {queries} queries, of {len(set(answers.query_row.tolist())):,} videos in "
        f"{r['classes']} classes; chance {100 / max(r['way'], 1):.1f} %. Cubes {'x'.join(map(str, r['cube_shape']))}; "
        f"store {r['store'][:12]}; episode list {r['episode_list'][:12]}, "
        + ("from a file." if r["list_seed"] is None else f"list seed {r['list_seed']}.")
    )
    said = " ".join([said, *(f"Weights: {line}." for line in pretraining_lines(r)[:1])])
    view = BlockView(number, block, cubes, title, said, queries)
    for place, row in enumerate(block.rows):
        id_ = f"{number}-{place}"
        scored = row.compared.scored
        text = render(
            "detail.html",
            id=id_,
            title=row.title,
            figures=figures_of([one.predictions for one in scored]),
            seeds=len(scored),
            open=number == 1 and row.title == block.base,
        )
        paths = [numbers[one.path] for one in scored]
        view.rows.append(RowView(row, id_, paths, markup(room.take(text))))
    return view


def provenance_of(
    found: Found,
    number: int,
    run: tuple[Path | None, RunConfig | None],
    store: Store | None,
    *,
    lists: Mapping[str, Path],
    root: Path,
) -> dict[str, Any]:
    """Where one record's numbers are from. run: its folder and settings; lists: files of episodes by sha256."""
    r, (folder, config) = found.record, run
    place = words_of_place(store) if store is not None else UNKNOWN_STORE
    facts = [
        ("record", str(found.path)),
        ("predictions", f"{r.predictions['path']}, sha256 {r.predictions['sha256']}"),
        ("store digest", r.store + (f", at {place}" if store is not None else ", not found")),
        ("recipe of the cubes", r.recipe),
        ("episode list", f"{r.episode_list}, " + ("a file" if r.list_seed is None else f"list seed {r.list_seed}")),
        ("episodes", f"{r.episodes:,}, {r.way}-way {r.shot}-shot, {r.query_mode} {r.queries}, {r.episodes_from}"),
        ("seed of training", "none" if r.seed is None else str(r.seed)),
        ("weights selected on", r.selected_on),
        ("trained on", _trained_on(r.trained_on)),
        ("videos", ", ".join(f"{name} {count}" for name, count in r.coverage.items())),
        ("precision", r.precision + (f", trained in {r.train_precision}" if r.train_precision else "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in r.versions.items())),
        ("to score it again", evaluate_command(r, found.path, store=place, run=folder, lists=lists)),
    ]
    trained = "" if config is None or folder is None else train_command(config, store=place, out=folder)
    facts += [("to train it again", trained)] if trained else []
    if store is not None:
        about = store.header.provenance
        facts += [(f"store: {name}", str(about[key])) for name, key in _STORE_FACTS if about.get(key)]
    return {"number": number, "name": _below(found.path, root), "facts": facts}


_STORE_FACTS = (("made by", "command"), ("weights", "weights_source"), ("videos", "root"), ("date", "date"))


def _trained_on(value: Mapping[str, Any] | None) -> str:
    return "nothing" if value is None else ", ".join(f"{name} {what}" for name, what in value.items())


def _below(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def view_run(run: TrainedRun) -> dict[str, Any]:
    """A line of the table of training runs."""
    config, settings = run.config, run.settings
    if config is not None:
        variant = config.keywords.get("variant")
        adapter = " + adapter" if config.keywords.get("adapter") else ""
        what = f"{config.method} {variant or ''}".strip() + adapter
        facts = {"way": config.way, "shot": config.shot, "seed": config.seed, "selects": config.select_on}
    else:
        what = f"{settings.get('backbone', 'a backbone')}, {settings.get('recipe', 'fine-tuned')}"
        facts = {name: settings.get(name) or "" for name in ("way", "shot")}
        facts |= {"seed": settings.get("seed", ""), "selects": settings.get("select_on", "val")}
    best = run.best if run.val_n is not None else None
    return {"run": run, "what": what, **facts, "best": best, "last": run.lines[-1]["at"] if run.lines else 0.0}
