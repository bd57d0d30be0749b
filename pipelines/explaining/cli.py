"""The command `mastaf explain`."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ...cache import console
from ...cache.place import StorePath
from ...fewshot import cli_options as options
from ..own_videos.enrol_cli import HEAD, NETWORK

_OF_STORE = console.several(
    click.option("--features", type=console.STORE, metavar="STORE", help="Store of cubes: an episode of it is shown."),
    click.option(
        "--episode", "number", type=click.IntRange(0), metavar="N", help="Of the list that evaluate scores, from 0."
    ),
    click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True),
    click.option("--episodes", type=click.IntRange(2), metavar="N", help="Episodes of the list  [default: 10000]."),
    options.LIST,
    options.episodes_from(),
    options.path_option("--episode-list", metavar="FILE", help="The list is this file."),
    click.option("--way", type=click.IntRange(2), help="Classes an episode  [default: the run's]."),
    click.option("--shot", type=click.IntRange(1), help="Examples of each class  [default: the run's]."),
    options.QUERIES,
    click.option("--allow-partial", is_flag=True, help="Use what an unfinished extraction has."),
    options.path_option("--root", metavar="DIR", help="Folder of the store's videos  [default: where they were]."),
)
_STORE_ONLY = {
    *(
        "number",
        "split",
        "episodes",
        "list_seed",
        "episodes_from",
        "episode_list",
        "way",
        "shot",
        "query_mode",
        "queries",
    ),
    *("allow_partial", "root"),
}
_OF_CLIPS = console.several(
    options.path_option("--support", metavar="DIR", help="Clips of one's own instead of a store: CLASS/VIDEO."),
    options.path_option("--query", "clips", metavar="CLIP", multiple=True, help="Beside --support; may be repeated."),
    NETWORK,
)
# Weights may go with a store, too: they let its cubes be made again.
_CLIPS_ONLY = {"clips", "backbone", "revision", "layer", "time", "frames", "size", "resize", "precision"}


@click.command("explain")
@_OF_STORE
@_OF_CLIPS
@HEAD
@click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave their folder.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--columns", type=click.IntRange(1), metavar="N", help="Frames of a video in a PNG  [default: by size].")
@click.option("--no-film", is_flag=True, help="Write no MP4.")
@options.path_option("--out", metavar="DIR", help="Folder of the pictures  [default: runs/explain/NAME].")
@console.json_option
@click.pass_context
def command(
    context: click.Context, features: StorePath | None, support: Path | None, json_file: Path | None, **given: Any
) -> int:
    """Show where a head looked: its attention over the frames of an episode, or of clips of one's own.

    Writes a PNG and an MP4 of each query, in which supports and query stand side by side as the backbone saw them,
    with the scores of all ways. Without --checkpoint and --method the head is MASTAF without its meta-learner. With
    --features, --weights lets the store's cubes be made again, to see that its videos have not changed.

    \b
    Examples:
      mastaf explain --features cache/hmdb51_r3d.zarr --episode 3 --checkpoint runs/NAME
      mastaf explain --features cache/hmdb51_r3d.zarr --episode 3 --shot 5
      mastaf explain --support my_classes/ --query clip.mp4
    """
    _require_one(context, of_store=features is not None, of_clips=support is not None)
    keywords = options.method_keywords(given)
    how = {"out": given.pop("out"), "columns": given.pop("columns"), "film": not given.pop("no_film")}
    given = {name: value for name, value in options.given(given).items() if value != ()}
    given["method_keywords"] = keywords
    if features is not None:
        summary = _of_store(features, {name: v for name, v in given.items() if name not in _CLIPS_ONLY}, **how)
    else:
        summary = _of_clips(support or Path(), {name: v for name, v in given.items() if name not in _STORE_ONLY}, **how)
    console.write_summary(json_file, summary)
    return console.FINISHED_WITH_FAILURES if summary.get("failed") else console.DONE


def _require_one(context: click.Context, *, of_store: bool, of_clips: bool) -> None:
    """click.UsageError unless the options are those of one of both ways, and all that it needs."""
    if of_store == of_clips:
        raise click.UsageError("give --features STORE and --episode N, or --support DIR and --query CLIP")
    strangers = _CLIPS_ONLY if of_store else _STORE_ONLY
    named = [
        p for p in context.command.params if context.get_parameter_source(p.name or "") is ParameterSource.COMMANDLINE
    ]
    wrong = [parameter.opts[0] for parameter in named if parameter.name in strangers]
    if wrong:
        raise click.UsageError(
            f"{', '.join(wrong)} cannot go with --{'features' if of_store else 'support'}; leave it out"
        )
    needed = ("number", "--episode N") if of_store else ("clips", "--query CLIP")
    if context.params.get(needed[0]) in (None, ()):
        raise click.UsageError(f"--{'features' if of_store else 'support'} needs {needed[1]}")


def _of_store(features: StorePath, given: dict[str, Any], *, out: Path | None, **how: Any) -> dict[str, Any]:
    from ...cache.store import open_store
    from .explain import say_and_write, writable_folder
    from .of_store import explain_episode

    store = open_store(features)
    out = writable_folder(out or Path("runs/explain") / f"{store.path.stem}_{given['split']}{given['number']}")
    found = explain_episode(store, given.pop("checkpoint", None), **given)
    if not found.checked:
        console.say("not checked: whether the videos still give the store's cubes; --weights lets it be asked")
    shown = [(found.explanation, q) for q in range(len(found.explanation.queries))]
    return say_and_write(shown, {**found.facts, "checked": found.checked}, out, **how)


def _of_clips(support: Path, given: dict[str, Any], *, out: Path | None, **how: Any) -> dict[str, Any]:
    from .explain import say_and_write, writable_folder
    from .of_clips import explain_clips

    out = writable_folder(out or Path("runs/explain") / (support.resolve().name or "clips"))
    explanations, facts, failures = explain_clips(support, given.pop("clips"), progress=True, **given)
    for path, reason in failures:
        console.say(f"not used: {path}: {reason}")
    failed = [{"path": path, "reason": reason} for path, reason in failures]
    return say_and_write([(one, 0) for one in explanations], {**facts, "failed": failed}, out, **how)
