"""The commands of `mastaf-fewshot` that make tables."""

from pathlib import Path
from typing import Any

import click

from ..cache import console
from ..cache.console import several
from ..cache.place import StorePath
from . import cli_options as options

# What the tables of heads have in common: how they are trained, and on what they are scored.
_ROWS = several(
    click.option("--way", type=click.IntRange(2), help="Classes an episode  [default: 5]."),
    click.option("--shot", "shots", callback=options.shots, help="Such as 1 or 1,5  [default: 1]."),
    options.QUERIES,
    options.TRAINING,
    options.SELECT_ON,
    options.SEEDS,
    click.option("--split", type=click.Choice(["val", "test"]), default="test", show_default=True),
    click.option("--episodes", type=click.IntRange(2), metavar="N", help="Episodes to score  [default: 10000]."),
    options.LIST,
    options.episodes_from(),
    options.path_option(
        "--episode-list", "episode_lists", multiple=True, metavar="FILE", help="Score these episodes; one file a shot."
    ),
    options.PRECISION,
    options.ALLOW_SEEN_CLASSES,
)


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


@click.command()
@click.option(
    "--features",
    type=console.STORE,
    multiple=True,
    required=True,
    metavar="STORE [STORE ...]",
    help="Stores of cubes: paths, or s3://BUCKET/NAME.zarr; a block of the table for each.",
)
@click.argument("more", type=console.STORE, nargs=-1, metavar="")
@options.READING
@click.option(
    "--methods",
    default="all",
    show_default=True,
    callback=_names,
    metavar="NAMES",
    type=options.METHODS,
    cls=options.MethodOption,
    help="Of METHODS; NAME:VARIANT for a variant. all: each of them and mastaf:neighbor, but what a store cannot have.",
)
@_ROWS
@options.path_option("--out", metavar="DIR", help="Folder of tables and runs  [default: runs/compare_STORE].")
@console.json_option
def compare(features: tuple[StorePath, ...], more: tuple[StorePath, ...], json_file: Path | None, **given: Any) -> int:
    """Train methods with their own published settings, and compare them on the same test episodes.

    Every method is held against MASTAF, query by query. Options of training replace every method's own. Writes CSV,
    JSON, Markdown and a plot (extra: pip install 'mastaf[plots]'). Stopped at any moment, the same command continues;
    methods that are finished are neither trained nor scored again. With --split val nothing is selected. The exit
    status is 1 where a method of `all` failed, and 0 where a store cannot have it.

    On cubes of R3D (2048 x 1 x 7 x 7) the published training takes, at 1 shot on one core: ARN about 28 hours, CAN
    1.2, FEAT 1.0, PAL 0.3, TRX 0.1; ProtoGAN is slow too. Name the methods that you want with --methods, or give all of
    them fewer episodes with --train-episodes.

    \b
    Examples:
      mastaf-fewshot compare --features cache/hmdb51_r3d.zarr --shot 1,5
      mastaf-fewshot compare --features cache/hmdb51_r3d.zarr --methods mastaf,mastaf:neighbor,protonet,trx --seeds 3
      mastaf-fewshot compare --features cache/hmdb51_r3d.zarr cache/hmdb51_tsn.zarr --train-episodes 4000
    """
    from ..cache.store import open_store
    from .compare import compare as run
    from .compare import folder_of
    from .statistics.compare_files import compare_summary, write_comparison
    from .statistics.compare_text import compare_text

    stores, split = [open_store(path) for path in (*features, *more)], given["split"]
    blocks = run(stores, **options.given(given))
    console.say("\n" + compare_text(blocks) + "\n")
    written = write_comparison(folder_of(stores, given["out"]) / f"comparison_{split}", blocks)
    console.say(f"written: {', '.join(map(str, written))}; runs, records and predictions in folders beside")
    console.write_summary(json_file, compare_summary(blocks))
    failed = any(found.failed for block in blocks for found in block.compared.not_run)
    return console.FINISHED_WITH_FAILURES if failed else console.DONE


@click.command()
@options.STORE
@click.option(
    "--rows",
    type=click.Choice(["fusion", "parts", "all"]),
    default="fusion",
    show_default=True,
    help="fusion: Neighbor, Self, Cross, full; parts: full, no meta-learner, no residual, lambda 0.",
)
@options.SWITCHES
@_ROWS
@options.path_option("--out", metavar="DIR", help="Folder of table and runs  [default: runs/ablate_STORE].")
@console.json_option
def ablate(features: StorePath, json_file: Path | None, **given: Any) -> None:
    """Train variants of MASTAF on the same episodes, and compare them on the same test episodes.

    The paper's Table 3 (fusion) and its appendix (parts). With --split val nothing is selected.

    \b
    Examples:
      mastaf-fewshot ablate --features cache/hmdb51_r3d.zarr
      mastaf-fewshot ablate --features cache/hmdb51_r3d.zarr --rows all --shot 1,5 --split val
    """
    keywords = options.method_keywords(given)
    from ..cache.store import open_store
    from .ablate import ablate_fully
    from .statistics.pretraining import pretraining_lines
    from .statistics.table import text_table
    from .statistics.table_files import summary_of

    compared = ablate_fully(open_store(features), method_keywords=keywords, **options.given(given))
    console.say("\n" + text_table(compared))
    # The first line alone: accuracies are each row's own, and in its record.
    for line in pretraining_lines(compared.rows[0].record)[:1]:
        console.say(f"\n{line}")
    console.say(f"\ntable, records and predictions: {compared.rows[0].paths[0].parent.parent.parent}")
    console.write_summary(json_file, summary_of(compared))


@click.command()
@click.option("--paper", type=click.IntRange(1, 3), required=True, help="Which table of the paper.")
@options.path_option("--runs", metavar="DIR", default="runs", show_default=True, help="Where result records are.")
@options.path_option("--out", metavar="FILE", help="Also write the table as Markdown to FILE.")
@console.json_option
def table(paper: int, runs: Path, out: Path | None, json_file: Path | None) -> int:
    """Rebuild a table of the paper from result records: published number, ours, and the difference.

    Cells of which nothing was run stay empty; cubes unlike the paper's, and random weights, fill none. A number says
    what sets it apart: weights selected on test, a part of the split. Files that are no records, or whose score does
    not follow from their predictions, are named, and the exit status is then 1.

    \b
    Examples:
      mastaf-fewshot table --paper 2
      mastaf-fewshot table --paper 3 --runs runs/ablate_ucf101_r3d --json table3.json
    """
    from ..cache.atomic import write_bytes
    from .statistics.found_records import find_records
    from .statistics.paper_tables import fill_table, paper_summary
    from .statistics.paper_text import paper_text

    filled = fill_table(paper, *find_records(runs))
    text = paper_text(filled, runs)
    console.say(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, (text + "\n").encode())
    console.write_summary(json_file, paper_summary(filled))
    return console.FINISHED_WITH_FAILURES if filled.refused else console.DONE
