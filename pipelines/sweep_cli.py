"""The command `mastaf sweep`."""

from pathlib import Path
from typing import Any

import click

from ..cache import console
from ..cache.place import StorePath
from ..fewshot import cli_options as options
from .search_space import ADAPTERS, SETTINGS


def _ranges(command: Any) -> Any:
    for name, setting in reversed(SETTINGS.items()):
        metavar, text = "RANGE", f"LOW:HIGH, A,B,... or one value  [default: {setting.usual}]."
        command = click.option(setting.flag, name, metavar=metavar, help=text)(command)
    return command


@click.command("sweep")
@click.option(
    "--features",
    type=console.STORE,
    metavar="STORE",
    required=True,
    multiple=True,
    help="Store of cubes (a path, or s3://...); several times to choose between backbones, on the same videos.",
)
@click.option("--allow-partial", is_flag=True, help="Use what an unfinished extraction has.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@options.BANK
@_ranges
@click.option("--adapter", type=click.Choice(list(ADAPTERS)), default="both", show_default=True)
@click.option(
    "--shot", "shots", default="1", show_default=True, callback=options.shots, help="Each a search: 1 or 1,5."
)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Heads to train for each shot.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Trials at once, in processes.")
@options.METHOD
@options.PRESET
@options.PARTS
@click.option("--way", type=click.IntRange(2), default=5, show_default=True, help="Classes an episode.")
@options.QUERIES
@options.OPTIMISATION
@options.SCHEDULE
@options.path_option("--out", metavar="DIR", help="Folder of the sweep  [default: runs/sweep_STORE].")
@console.json_option
def command(features: tuple[StorePath, ...], adapter: str, json_file: Path | None, **given: Any) -> int:
    """Search for the settings of a head that are best on the val classes (extra: pip install 'mastaf[sweep]').

    Every trial is a training run in a folder of its own; the search is Optuna's tree-structured Parzen estimator. Test
    classes are never read. DIR/best.json holds the best settings for each shot, with the command that trains them.
    Stopped at any moment, the same command continues; with more --trials it goes on.

    \b
    Examples:
      mastaf sweep --features cache/hmdb51_r3d.zarr --shot 1,5 --trials 40 --jobs 4
      mastaf sweep --features cache/a_r3d.zarr --features cache/a_r3d-tiny.zarr --tau 0.025 --lambda 0,1,2
    """
    space = {name: given.pop(name) for name in SETTINGS}
    keywords = options.method_keywords(given)
    from .sweep import sweep

    found = sweep(features, space=space, adapter=adapter, method_keywords=keywords, **options.given(given))
    console.write_summary(json_file, found)
    failed = any(best["failed"] for best in found["shots"].values())
    return console.FINISHED_WITH_FAILURES if failed else console.DONE
