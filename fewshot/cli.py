"""`mastaf-fewshot`: train, evaluate and compare few-shot heads on a store of cubes."""

import resource
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cache import console
from ..cache.place import StorePath
from ..cache.threads import spin_briefly
from . import cli_options as options
from . import table_cli
from .sharing.cli import RUN, push

if TYPE_CHECKING:
    from .checkpoint import TrainSummary


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mastaf")
def cli() -> None:
    """Train, evaluate and compare few-shot heads on a store of feature cubes.

    \b
    Examples:
      mastaf-fewshot train --features cache/hmdb51_r3d.zarr
      mastaf-fewshot evaluate --features cache/hmdb51_r3d.zarr --checkpoint runs/hmdb51_r3d_mastaf_5way_1shot_seed0
      mastaf-fewshot compare --features cache/hmdb51_r3d.zarr --shot 1,5
      mastaf-fewshot ablate --features cache/hmdb51_r3d.zarr --shot 1,5
    """


@cli.command()
@options.STORE
@options.METHOD
@options.SWITCHES
@options.PARTS
@click.option("--way", type=click.IntRange(2), default=5, show_default=True, help="Classes an episode.")
@click.option("--shot", type=click.IntRange(1), default=1, show_default=True, help="Examples of each class.")
@options.QUERIES
@options.TRAINING
@options.SELECT_ON
@options.path_option("--episode-list", "val_list", metavar="FILE", help="Select by the episodes of this file.")
@click.option("--tensorboard", is_flag=True, help="Write metrics as TensorBoard event files too (an extra).")
@options.path_option("--out", metavar="DIR", help="Folder of the run  [default: runs/NAME].")
@console.json_option
def train(features: StorePath, json_file: Path | None, **given: Any) -> None:
    """Train a head on episodes of the train classes, keeping the weights that are best on val.

    The folder holds config.json, metrics.jsonl and the weights as safetensors. Stopped at any moment, the same
    command continues, to the same weights. One run has one seed; `ablate --seeds N` trains with several and reports
    the spread between them.

    \b
    Examples:
      mastaf-fewshot train --features cache/hmdb51_r3d.zarr
      mastaf-fewshot train --features cache/toy.zarr --way 3 --shot 5 --train-episodes 2000 --out runs/toy
      mastaf-fewshot train --features cache/toy.zarr --preset paper --lambda 1 --patience 5
      mastaf-fewshot train --features cache/toy.zarr --optimiser adamw --schedule cosine --tensorboard
    """
    keywords = options.method_keywords(given)
    from ..cache.store import open_store
    from .train import train as run

    store = open_store(features)
    summary = run(store, method_keywords=keywords, **options.given(given))
    for line in _train_lines(summary, features, has_test="test" in store.index.splits):
        console.say(line)
    console.write_summary(json_file, summary.to_json())


@cli.command()
@options.STORE
@click.option(
    "--checkpoint",
    type=RUN,
    metavar="RUN",
    help="Folder that train wrote, or one of its weights files, or hf:USER/REPO[@REVISION].",
)
@options.METHOD
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--episodes", type=click.IntRange(2), metavar="N", help="Episodes to score  [default: 10000].")
@options.LIST
@options.episodes_from("both")
@options.path_option("--episode-list", metavar="FILE", help="Score the episodes of this file instead.")
@click.option("--way", type=click.IntRange(2), help="Classes an episode  [default: the run's].")
@click.option("--shot", type=click.IntRange(1), help="Examples of each class  [default: the run's].")
@options.QUERIES
@options.PRECISION
@options.ALLOW_SEEN_CLASSES
@options.path_option("--out", metavar="DIR", help="The record goes to DIR/results  [default: the run's folder].")
@console.json_option
def evaluate(features: StorePath, checkpoint: Path | None, json_file: Path | None, **given: Any) -> None:
    """Score a trained head, or one without parameters, on episodes of classes it has never seen.

    Writes the result record (JSON) and the predictions it was computed from (npz). STORE may be another than the one
    trained on, of the same recipe.

    \b
    Examples:
      mastaf-fewshot evaluate --features cache/hmdb51_r3d.zarr --checkpoint runs/NAME
      mastaf-fewshot evaluate --features cache/hmdb51_r3d.zarr --checkpoint runs/NAME --episodes-from both
      mastaf-fewshot evaluate --features cache/hmdb51_r3d.zarr --checkpoint runs/NAME --shot 5 --split val
      mastaf-fewshot evaluate --features cache/hmdb51_r3d.zarr --variant neighbor --shot 5
    """
    keywords = options.method_keywords(given)
    if checkpoint is None and not keywords and given["method"] is None:
        raise click.UsageError("give --checkpoint RUN, or a head without parameters (--variant neighbor)")
    from ..cache.store import open_store
    from .evaluate import evaluate_fully
    from .statistics.protocol_gap import evaluate_both
    from .statistics.score_text import gap_lines, score_lines, score_summary

    store, settings = open_store(features), {**options.given(given), "method_keywords": keywords}
    if settings.get("episodes_from") == "both":
        del settings["episodes_from"]
        gap = evaluate_both(store, checkpoint, **settings)
        lines, summary = gap_lines(gap), gap.to_json()
    else:
        found = evaluate_fully(store, checkpoint, **settings)
        lines, summary = score_lines(found), score_summary(found)
    for line in lines:
        console.say(line)
    console.write_summary(json_file, summary)


@cli.command()
@options.FEATURES
@click.option("--allow-partial", is_flag=True, help="Use what an unfinished extraction has.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("-n", "--episodes", type=click.IntRange(2), metavar="N", default=10_000, show_default=True)
@options.LIST
@click.option("--way", type=click.IntRange(2), default=5, show_default=True, help="Classes an episode.")
@click.option("--shot", type=click.IntRange(1), default=1, show_default=True, help="Examples of each class.")
@options.QUERIES
@options.episodes_from()
@options.path_option("--out", metavar="FILE", required=True, help="The list: text, one episode a line.")
@console.json_option
def episodes(features: StorePath, json_file: Path | None, **given: Any) -> None:
    """Write a list of episodes as video keys, which any store of these videos can score.

    \b
    Example:
      mastaf-fewshot episodes --features cache/hmdb51_r3d.zarr --split test -n 10000 --shot 5 --out hmdb51_5shot.txt
    """
    from ..cache.store import open_store
    from .episodes.listing import write_listing

    written = write_listing(open_store(features), **options.given(given))
    console.say(f"{given['out']}: {written['episodes']} episodes, sha256 {written['sha256']}")
    if written["source_shared"] is not None:
        share = f"{100 * written['source_shared']:.1f} %"
        console.say(f"{share} of the queries have a video of their own source among the supports of their class")
    console.write_summary(json_file, written)


cli.add_command(push)
cli.add_command(table_cli.compare)
cli.add_command(table_cli.ablate)
cli.add_command(table_cli.table)


def main() -> None:
    """Entry point of `mastaf-fewshot`."""
    spin_briefly()
    with suppress(ValueError, OSError):
        # Memory maps of a store's shards hold descriptors, and the usual soft limit is low.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    console.run(cli)


def _train_lines(summary: "TrainSummary", features: StorePath, *, has_test: bool) -> list[str]:
    trained = f"trained on {summary.episodes} episodes in {summary.seconds:.1f} s" if summary.episodes else "trained"
    lines = [trained if summary.trained else "nothing to train"]
    if summary.val_accuracy is not None and summary.val_ci95 is not None:
        best = f"{100 * summary.val_accuracy:.1f} +- {100 * summary.val_ci95:.1f} %"
        lines.append(f"best on val: {best} after {summary.weights_episodes} episodes")
    lines.append(f"weights: {summary.out / summary.weights} (selected on: {summary.selected_on})")
    split = "" if has_test else " --split val"
    lines.append(f"next: mastaf-fewshot evaluate --features {features} --checkpoint {summary.out}{split}")
    return lines
