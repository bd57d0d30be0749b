"""The command `mastaf`: whatever needs both stages."""

from pathlib import Path
from typing import Any

import click

from ..cache import console
from ..cache.threads import spin_briefly
from ..extract.cli_options import BACKBONE, DATASET, WEIGHTS
from ..fewshot import cli_options as options
from . import profile_cli, sweep_cli
from .explaining.cli import command as explain
from .finetuning.cli import command as finetune
from .own_videos.classify_cli import command as classify
from .own_videos.enrol_cli import command as enrol
from .reporting.cli import command as report
from .serving.cli import command as serve


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="See also: mastaf-extract (stage one), mastaf-fewshot (stage two), mastaf-cache (the store between them).",
)
@click.version_option(package_name="mastaf")
def cli() -> None:
    """Few-shot video classification: from videos to cubes to a few-shot result.

    \b
    Examples:
      mastaf demo
      mastaf enrol --support my_classes/ --out my.classes
      mastaf classify --classes my.classes clip.mp4
      mastaf two-stage --root my_videos/
      mastaf finetune --backbone r3d-tiny --dataset motion --recipe classify --weights random
    """


@cli.command()
@options.path_option("--out", metavar="DIR", default="runs/demo", show_default=True, help="Output folder.")
@options.path_option(
    "--root", metavar="DIR", help="Where the videos are rendered  [default: $MASTAF_DATA/motion, else data/motion]."
)
@click.option("--shot", "shots", default="1,5", show_default=True, callback=options.shots, help="Shots to test.")
@click.option("--episodes", type=click.IntRange(2), default=10_000, show_default=True, help="Test episodes.")
@click.option("--train-episodes", type=click.IntRange(1), help="Training episodes of each head  [default: 4000].")
@click.option("--workers", type=click.IntRange(1), help="Decoding threads  [default: one a core].")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of training.")
@console.json_option
def demo(json_file: Path | None, **given: Any) -> int:
    """Render the embedded data set, extract cubes, train and compare MASTAF and its ablations.

    Everything is made on the spot, with the weights that the package ships; nothing is downloaded. Run again, it
    continues where it stopped.

    \b
    Examples:
      mastaf demo
      mastaf demo --out runs/quick --shot 1 --episodes 1000 --train-episodes 640
    """
    from .demo import run_demo

    report = run_demo(**given)
    console.write_summary(json_file, report)
    return console.DONE


@cli.command("two-stage")
@options.path_option(
    "--root", metavar="DIR", help="Folder of the videos  [default: $MASTAF_DATA/<dataset>, else data/<dataset>]."
)
@click.option(
    "--dataset",
    metavar="NAME",
    type=DATASET,
    default="folder",
    show_default=True,
    help="A data set's name, or a CSV file.",
)
@options.path_option("--split-files", metavar="DIR", help="Folder of the published split's list files.")
@click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the root.")
@click.option(
    "--backbone", metavar="NAME", type=BACKBONE, default="r3d-tiny", show_default=True, help="Name of the backbone."
)
@click.option(
    "--weights", metavar="FILE|DIR|hub|random", type=WEIGHTS, help="Weights of the backbone  [default: its own]."
)
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of weights on the hub  [default: main].")
@options.path_option(
    "--out", metavar="DIR", help="Output folder  [default: runs/<dataset, or folder's name>_<backbone>]."
)
@click.option("--way", type=click.IntRange(1), help="Classes an episode  [default: 5, or all if there are fewer].")
@click.option("--shot", type=click.IntRange(1), default=1, show_default=True, help="Examples a class.")
@click.option("--episodes", type=click.IntRange(2), default=10_000, show_default=True, help="Test episodes.")
@click.option("--train-episodes", type=click.IntRange(1), help="Training episodes  [default: by data set].")
@click.option("--workers", type=click.IntRange(1), help="Decoding threads  [default: one a core].")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of training.")
@console.json_option
def two_stage(json_file: Path | None, **given: Any) -> int:
    """From a folder of videos to a few-shot accuracy: extract, train, evaluate.

    ROOT holds {train,val,test}/CLASS/VIDEO, or CLASS/VIDEO. A video is a file in any container that ffmpeg reads,
    or a folder of frames. Without train classes the parameter-free Neighbor is evaluated.

    \b
    Examples:
      mastaf two-stage --root my_videos/
      mastaf two-stage --dataset hmdb51 --root /data/hmdb51 --backbone r3d --weights r3d50_KMS_200ep.pth --shot 5
    """
    from .two_stage import run_two_stage

    result = run_two_stage(**given)
    console.write_summary(json_file, result)
    return console.FINISHED_WITH_FAILURES if result["failed"] else console.DONE


cli.add_command(finetune, "finetune")
cli.add_command(explain, "explain")
cli.add_command(serve, "serve")
cli.add_command(sweep_cli.command, "sweep")
cli.add_command(profile_cli.command, "profile")
cli.add_command(enrol, "enrol")
cli.add_command(classify, "classify")
cli.add_command(report, "report")


def main() -> None:
    """Entry point of `mastaf`."""
    spin_briefly()
    console.run(cli)
