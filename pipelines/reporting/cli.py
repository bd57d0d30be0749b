"""The command `mastaf report`."""

from pathlib import Path
from typing import Any

import click

from ...cache import console
from ...cache.place import StorePath
from ...fewshot import cli_options as options


@click.command("report")
@options.path_option("--runs", metavar="DIR", default="runs", show_default=True, help="Folder of results and runs.")
@options.path_option("--out", metavar="FILE", help="The page  [default: DIR/report.html].")
@click.option(
    "--features",
    type=console.STORE,
    multiple=True,
    metavar="STORE",
    help="Store that results are of, where it is not found by itself; may be repeated.",
)
@options.path_option(
    "--root", metavar="DIR", help="Where the videos are  [default: where they were when the store was made]."
)
@options.path_option(
    "--episode-list",
    "lists",
    metavar="FILE",
    multiple=True,
    help="List that results were scored on, to show their supports; may be repeated.",
)
@click.option(
    "--mistakes",
    type=click.IntRange(0, 24),
    default=6,
    show_default=True,
    metavar="N",
    help="Wrong answers to show in each table.",
)
@click.option("--no-frames", is_flag=True, help="Without pictures of the videos, as for a page to give away.")
@console.json_option
def command(runs: Path, features: tuple[StorePath, ...], no_frames: bool, json_file: Path | None, **given: Any) -> int:
    """Write one HTML page of all results: tables with intervals and paired tests, curves, mistakes, and their origin.

    The page needs no network and no other file. It is made from result records, predictions and metrics alone, as
    train, evaluate, ablate, compare, sweep and finetune leave them. Frames come from the videos, where they still are.
    Records whose score does not follow from their predictions are named and left out, and the exit status is then 1.

    \b
    Examples:
      mastaf report --runs runs/
      mastaf report --runs runs/demo --features cache/hmdb51_r3d.zarr --root /data/hmdb51 --out hmdb51.html
    """
    from .report import counted, make_report

    found = make_report(runs, features=features, frames=not no_frames, **given)
    for one in found["refused"]:
        console.say(f"left out: {one['reason']}")
    console.say(
        f"{found['out']}: {counted(found['results'], 'result')} in {counted(found['tables'], 'table')}, "
        f"{counted(found['training_runs'], 'training run')}; {found['bytes'] / 1e6:.2f} MB"
    )
    console.write_summary(json_file, found)
    return console.FINISHED_WITH_FAILURES if found["refused"] else console.DONE
