"""The options of `mastaf finetune`. Those without a default in their help have the recipe's own."""

import click

from ...cache.console import STORE, several
from ...extract.cli_options import BACKBONE, DATASET, WEIGHTS
from ...fewshot import cli_options as options
from ...fewshot.cubes.residence import BANKS
from ...fewshot.sharing.cli import RUN
from ...fewshot.training.optimisation import OPTIMISERS, SCHEDULES

_POSITIVE = click.FloatRange(0, min_open=True)

VIDEOS = several(
    click.option(
        "--backbone",
        metavar="NAME",
        type=BACKBONE,
        help="Name of the backbone  [default: r3d-tiny, or the store's].",
    ),
    click.option(
        "--dataset", metavar="NAME", type=DATASET, help="A data set's name, or a CSV file  [default: motion]."
    ),
    options.path_option("--root", metavar="DIR", help="Folder of the videos  [default: data/<dataset>]."),
    options.path_option("--split-files", metavar="DIR", help="Folder of the published split's list files."),
    click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the root."),
    click.option("--features", type=STORE, metavar="STORE", help="tail: cubes of a middle stage, by --layer."),
    click.option("--allow-partial", is_flag=True, help="tail: use what an unfinished extraction has."),
    click.option("--bank", type=click.Choice(BANKS), help="tail: where the cubes stay  [default: where they fit]."),
    click.option(
        "--weights",
        metavar="FILE|DIR|hub|random",
        type=WEIGHTS,
        help="Where to start; random: from nothing  [default: its own].",
    ),
    click.option("--revision", metavar="NAME", help="Branch, tag or commit of weights on the hub  [default: main]."),
    click.option("--frames", type=click.IntRange(1), help="Frames of a clip  [default: the backbone's]."),
    click.option("--size", type=click.IntRange(1), help="Side of a clip in pixels  [default: the backbone's]."),
    click.option("--resize", type=click.Choice(["squash", "short"]), help="[default: squash]"),
    click.option("--time", type=click.Choice(["keep", "mean"]), help="Of the cubes  [default: keep]."),
    click.option(
        "--augment", help="Of shift,channels,invert,flip,speed (episodic: flip), or 'none'  [default: by data set]."
    ),
    click.option("--workers", type=click.IntRange(1), help="Decoding threads  [default: one a core]."),
    options.path_option("--frame-cache", metavar="DIR", help="Decode once, into this folder, and read from it."),
    click.option(
        "--cache-frames", type=click.IntRange(2), metavar="N", help="Keep N more frames a clip there, and draw of them."
    ),
    click.option("--device", help="auto, cpu, cuda, cuda:1, ...  [default: auto]."),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        help="Of all random choices, a folder's class split among them: give `mastaf-extract` the same  [default: 0].",
    ),
    click.option("--weights-dtype", type=click.Choice(["float32", "float16"]), help="Stored as  [default: float32]."),
    options.path_option(
        "--out", metavar="DIR", help="Output folder  [default: runs/<dataset, folder or store>_<backbone>_<recipe>]."
    ),
)

EPISODES = several(
    options.METHOD,
    options.SWITCHES,
    options.PARTS,
    click.option(
        "--head",
        type=RUN,
        metavar="RUN",
        help="Go on from this run's head (a folder, or hf:USER/REPO), on cubes of the same weights.",
    ),
    click.option("--way", type=click.IntRange(2), help="Classes an episode  [default: 5]."),
    click.option("--shot", type=click.IntRange(1), help="Examples of each class  [default: 1]."),
    options.QUERIES,
    click.option(
        "--train-episodes",
        type=click.IntRange(1),
        metavar="N",
        help="Training episodes  [default: published, 4000].",
    ),
    click.option(
        "--val-episodes", type=click.IntRange(2), metavar="N", help="Val episodes to select by  [default: 1000]."
    ),
    click.option(
        "--val-every", type=click.IntRange(1), metavar="N", help="Validate every N episodes  [default: 1/20]."
    ),
    click.option("--patience", type=click.IntRange(1), metavar="N", help="Stop after N validations without a better."),
    click.option("--select-on", type=click.Choice(["val", "none"]), help="none: keep the last ones  [default: val]."),
)

MOVES = several(
    click.option("--epochs", type=click.FloatRange(0, 1e6, min_open=True), help="classify: rounds  [default: 40]."),
    click.option("--steps", type=click.IntRange(1), help="classify: updates, instead of --epochs."),
    click.option("--batch", type=click.IntRange(1), help="Clips or episodes an update  [default: 32, or published]."),
    click.option(
        "--accumulate",
        type=click.IntRange(1),
        metavar="N",
        help="Parts of an update that pass one after the other  [default: classify 1, else one an episode].",
    ),
    click.option("--lr", type=_POSITIVE, help="Of the backbone  [default: classify 2e-4, from random weights 2e-3]."),
    click.option("--head-lr", type=_POSITIVE, help="Of what reads its cubes  [default: --lr, or the method's]."),
    click.option("--optimiser", type=click.Choice(OPTIMISERS), help="[default: classify adamw, else the method's]"),
    click.option("--weight-decay", type=click.FloatRange(0), help="[default: classify 0.05, else the method's]"),
    click.option("--schedule", type=click.Choice(SCHEDULES), help="[default: classify cosine, else the method's]"),
    click.option("--step-every", type=click.IntRange(1), metavar="N", help="With --schedule step: clips or episodes."),
    click.option("--step-factor", type=_POSITIVE, help="With --schedule step  [default: 0.1]."),
    click.option(
        "--warm-up",
        type=click.FloatRange(0, 1, max_open=True),
        help="Share of updates  [default: classify .05, else 0].",
    ),
    click.option("--clip-norm", type=_POSITIVE, help="Shorten gradients to this norm  [default: as is]."),
    click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), help="[default: 0]"),
    click.option("--freeze", metavar="STAGES", help="Such as stem,layer1: these stages stay as they are."),
    click.option(
        "--batchnorm", type=click.Choice(["train", "frozen"]), help="frozen: by running statistics  [default: train]."
    ),
    click.option("--checkpointing", is_flag=True, help="Less memory, a third more time: stages are computed twice."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of the network  [default: auto]."),
)

THEN = several(
    click.option(
        "--then",
        metavar="extract[,ablate]",
        help="Extract the cubes before and after, and compare heads on every kind of features.",
    ),
    click.option(
        "--test-episodes", type=click.IntRange(2), metavar="N", help="With --then ablate: to score  [default: 10000]."
    ),
    click.option(
        "--head-episodes", type=click.IntRange(1), metavar="N", help="With --then ablate: to train each head on."
    ),
)
