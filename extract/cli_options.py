"""The options of `mastaf-extract`, in the order of its help."""

from pathlib import Path

import click

from ..cache import console
from ..cache.completion import Names
from ..cache.spec import STORE_DTYPES, TIMES
from .backbones.plugins import backbone_names
from .datasets.by_name import DATASETS
from .decoding.sampling import SAMPLING_RULES


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


class _BackboneOption(click.Option):
    """`--backbone`, whose help lists the names as they are when it is printed: plug-ins may come and go."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = f"{', '.join(backbone_names())}."
        return super().get_help_record(ctx)


BACKBONE = Names(backbone_names)
DATASET = Names(lambda: DATASETS, or_file=True)
WEIGHTS = Names(lambda: ("hub", "random"), or_file=True)
EXTRACTION = console.several(
    click.option("--backbone", metavar="NAME", type=BACKBONE, required=True, cls=_BackboneOption),
    click.option("--dataset", metavar="NAME", type=DATASET, required=True, help=f"{', '.join(DATASETS)}, or FILE.csv."),
    click.option(
        "--root",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder of the videos  [default: $MASTAF_DATA/<dataset>, else data/<dataset>].",
    ),
    click.option(
        "--split-files",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Folder of the published {train,val,test}list*.txt, which ssv2-* and kinetics-cmn need.",
    ),
    click.option(
        "--weights",
        metavar="FILE|DIR|hub|random",
        type=WEIGHTS,
        help="Weights of the backbone; random: for tests  [default: its own; see docs/backbones.md].",
    ),
    click.option("--revision", metavar="NAME", help="Branch, tag or commit of weights on the hub  [default: main]."),
    click.option(
        "--labels",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Label list of the data that the weights saw: records which test classes they know by name.",
    ),
    click.option(
        "--out",
        metavar="STORE",
        type=console.STORE,
        help="A .zarr or .h5 store, or s3://BUCKET/NAME.zarr  [default: cache/<dataset, or folder's "
        "name>_<backbone>.zarr]; several layers add their names.",
    ),
    click.option(
        "--layer",
        "layers",
        metavar="LIST",
        default="",
        callback=_names,
        help="Stages whose outputs are the cubes; several, such as layer3,layer4, are written in one pass, each into a "
        "store of its own  [default: the last].",
    ),
    click.option(
        "--time",
        type=click.Choice(TIMES),
        default="keep",
        show_default=True,
        help="mean: cubes averaged over time, as MASTAF-{TSN} wants.",
    ),
    click.option("--frames", type=click.IntRange(1), help="Frames a clip  [default: the backbone's]."),
    click.option("--size", type=click.IntRange(1), help="Side of a clip in pixels  [default: the backbone's]."),
    click.option(
        "--resize",
        type=click.Choice(["squash", "short"]),
        default="squash",
        show_default=True,
        help="squash: to a square; short: keep the aspect ratio.",
    ),
    click.option(
        "--views",
        metavar="LIST",
        default="plain",
        show_default=True,
        callback=_names,
        help="plain and, for training alone: t1, t2, ... (jittered frames), left, right, top, bottom, topleft, ..., "
        "bottomright (other crops), flip; combined as in topleft+t1+flip.",
    ),
    click.option(
        "--sampling",
        type=click.Choice(SAMPLING_RULES),
        default="even",
        show_default=True,
        help="Which frames; middle (one frame, repeated) and shuffled are controls.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help="auto: bf16 where it is fast.",
    ),
    click.option(
        "--devices",
        metavar="LIST",
        default="auto",
        show_default=True,
        help="auto (every GPU, else the CPU), or a list such as cuda:0,cuda:1: a process for each.",
    ),
    click.option(
        "--cluster",
        metavar="ADDRESS",
        default="",
        help="Run on an existing Dask cluster, such as tcp://host:8786; see docs/cluster.md.",
    ),
    click.option(
        "--allow-mixed-devices",
        is_flag=True,
        help="Allow CPU and GPU in one store: their cubes differ in the last bits.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1),
        help="Decoding threads of each process  [default: as many as keep up, by measuring; see docs].",
    ),
    click.option("--queue", type=click.IntRange(1), help="Clips decoded ahead  [default: by measuring]."),
    click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Clips a forward pass."),
    click.option(
        "--limit",
        type=click.IntRange(1),
        metavar="N",
        help="Only N videos, spread over splits and classes; needs --out.",
    ),
    click.option("--shard-rows", type=click.IntRange(1), help="Videos a shard  [default: 64, or 64 MB]."),
    click.option(
        "--store-dtype",
        type=click.Choice(STORE_DTYPES),
        default="float16",
        show_default=True,
        help="int8: about half the bytes, rounded with a scale for each channel of each video (no memory map).",
    ),
    click.option(
        "--compress", type=click.Choice(["zstd"]), help="Compress shards (then they cannot be memory-mapped)."
    ),
    click.option(
        "--plan", is_flag=True, help="Measure a sample for a minute at most, say what the run takes, and stop."
    ),
    click.option(
        "--recheck",
        type=click.IntRange(1),
        metavar="K",
        help="Extract K random done videos of a finished store again, compare, and write nothing.",
    ),
    click.option(
        "--retry-failed",
        is_flag=True,
        help="Also try the videos that failed before; those whose file has changed since are tried anyway.",
    ),
    click.option(
        "--on-failure",
        type=click.Choice(["skip", "stop"]),
        default="skip",
        show_default=True,
        help="stop: end the run at the first video that fails, also at one that failed before (exit status 1).",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        default=120,
        show_default=True,
        help="Most that decoding one video may take.",
    ),
    click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the root."),
    click.option("--allow-flip", is_flag=True, help="Allow views with flip where left and right are labels."),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Seed of a folder's class split, of random weights, and of what --recheck draws.",
    ),
)
