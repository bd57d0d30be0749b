"""The command `mastaf explain`."""

from pathlib import Path
from typing import Any

import click

from ...cache import console
from ...cache.place import StorePath
from ...fewshot import cli_options as options


@click.command("explain")
@click.option(
    "--features",
    type=console.STORE,
    metavar="STORE",
    required=True,
    help="Store of cubes: an episode of it is explained.",
)
@click.option(
    "--episode",
    "number",
    type=click.IntRange(0),
    metavar="N",
    required=True,
    help="Number of the episode in the list that evaluate scores, from 0.",
)
@options.path_option("--checkpoint", metavar="RUN", help="Folder that train wrote, or one of its weights files.")
@options.METHOD
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--episodes", type=click.IntRange(2), metavar="N", help="Episodes of the list  [default: 10000].")
@options.LIST
@options.episodes_from()
@options.path_option("--episode-list", metavar="FILE", help="The list is this file.")
@click.option("--way", type=click.IntRange(2), help="Classes an episode  [default: the run's].")
@click.option("--shot", type=click.IntRange(1), help="Examples of each class  [default: the run's].")
@options.QUERIES
@click.option("--allow-partial", is_flag=True, help="Use what an unfinished extraction has.")
@options.path_option("--root", metavar="DIR", help="Folder of the store's videos  [default: where they were].")
@click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the root.")
@click.option(
    "--weights", metavar="FILE|DIR|hub", help="Of the backbone: check that the videos still give their cubes."
)
@click.option("--columns", type=click.IntRange(1), metavar="N", help="Frames of a video in a PNG  [default: by size].")
@click.option("--no-film", is_flag=True, help="Write no MP4.")
@options.path_option("--out", metavar="DIR", help="Folder of the pictures  [default: runs/explain/NAME].")
@console.json_option
def command(features: StorePath, json_file: Path | None, **given: Any) -> int:
    """Show where a head looked: its attention over the frames of an episode, as PNG and MP4.

    Supports and query stand side by side, as the backbone saw them, with the scores of all ways.

    \b
    Examples:
      mastaf explain --features cache/hmdb51_r3d.zarr --episode 3 --checkpoint runs/NAME
      mastaf explain --features cache/hmdb51_r3d.zarr --episode 3 --set meta_learner=false --shot 5
    """
    keywords = options.method_keywords(given)
    from ...cache.store import open_store
    from .explain import say_and_write, writable_folder
    from .of_store import explain_episode

    out, columns, film = given.pop("out"), given.pop("columns"), not given.pop("no_film")
    store, run = open_store(features), given.pop("checkpoint")
    out = writable_folder(out or Path("runs/explain") / f"{store.path.stem}_{given['split']}{given['number']}")
    found = explain_episode(store, run, method_keywords=keywords, **options.given(given))
    if not found.checked:
        console.say("not checked: whether the videos still are what the backbone saw; --weights lets it be asked")
    summary = say_and_write(
        found.explanation, {**found.facts, "checked": found.checked}, out, columns=columns, film=film
    )
    console.write_summary(json_file, summary)
    return console.DONE
