"""The command `mastaf-extract`: stage one, from videos to a store of feature cubes."""

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..cache import console
from ..cache.place import StorePath
from ..cache.spec import TIMES
from ..cache.threads import spin_briefly
from .backbones.plugins import backbone_names, find_loader
from .datasets import DATASETS, find_dataset
from .errors import ExtractError
from .report import say_overlap, say_what_is_next, say_what_was_done, say_what_was_found
from .sampling import SAMPLING_RULES
from .videos import VideoSet


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


class _BackboneOption(click.Option):
    """`--backbone`, whose help lists the names as they are when it is printed: plug-ins may come and go."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = f"{', '.join(backbone_names())}."
        return super().get_help_record(ctx)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--backbone", metavar="NAME", required=True, cls=_BackboneOption)
@click.option("--dataset", metavar="NAME", required=True, help=f"{', '.join(DATASETS)}, or FILE.csv.")
@click.option(
    "--root",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the videos  [default: $MASTAF_DATA/<dataset>, else data/<dataset>].",
)
@click.option(
    "--split-files",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Folder of the published {train,val,test}list*.txt, which ssv2-* and kinetics-cmn need.",
)
@click.option(
    "--weights",
    metavar="FILE|DIR|hub|random",
    help="Weights of the backbone; random: for tests  [default: its own; see docs/backbones.md].",
)
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of weights on the hub  [default: main].")
@click.option(
    "--labels",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Label list of the data that the weights saw: records which test classes they know by name.",
)
@click.option(
    "--out",
    metavar="STORE",
    type=console.STORE,
    help="A .zarr or .h5 store, or s3://BUCKET/NAME.zarr  [default: cache/<dataset, or folder's "
    "name>_<backbone>.zarr]; several layers add their names.",
)
@click.option(
    "--layer",
    "layers",
    metavar="LIST",
    default="",
    callback=_names,
    help="Stages whose outputs are the cubes; several, such as layer3,layer4, are written in one pass, each into a "
    "store of its own  [default: the last].",
)
@click.option(
    "--time",
    type=click.Choice(TIMES),
    default="keep",
    show_default=True,
    help="mean: cubes averaged over time, as MASTAF-{TSN} wants.",
)
@click.option("--frames", type=click.IntRange(1), help="Frames a clip  [default: the backbone's].")
@click.option("--size", type=click.IntRange(1), help="Side of a clip in pixels  [default: the backbone's].")
@click.option(
    "--resize",
    type=click.Choice(["squash", "short"]),
    default="squash",
    show_default=True,
    help="squash: to a square; short: keep the aspect ratio.",
)
@click.option(
    "--views",
    metavar="LIST",
    default="plain",
    show_default=True,
    callback=_names,
    help="plain and, for training alone: t1, t2, ... (jittered frames), left, right, top, bottom, topleft, ..., "
    "bottomright (other crops), flip; combined as in topleft+t1+flip.",
)
@click.option(
    "--sampling",
    type=click.Choice(SAMPLING_RULES),
    default="even",
    show_default=True,
    help="Which frames; middle (one frame, repeated) and shuffled are controls.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto: bf16 where it is fast.",
)
@click.option("--devices", metavar="DEVICE", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option(
    "--workers", type=click.IntRange(1), help="Decoding threads  [default: as many as keep up, by measuring; see docs]."
)
@click.option("--queue", type=click.IntRange(1), help="Clips decoded ahead  [default: by measuring].")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Clips a forward pass.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only N videos, spread over splits and classes; needs --out."
)
@click.option("--shard-rows", type=click.IntRange(1), help="Videos a shard  [default: 64, or 64 MB].")
@click.option("--compress", type=click.Choice(["zstd"]), help="Compress shards (then they cannot be memory-mapped).")
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Also try the videos that failed before; those whose file has changed since are tried anyway.",
)
@click.option(
    "--on-failure",
    type=click.Choice(["skip", "stop"]),
    default="skip",
    show_default=True,
    help="stop: end the run at the first video that fails, also at one that failed before (exit status 1).",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=120,
    show_default=True,
    help="Most that decoding one video may take.",
)
@click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the root.")
@click.option("--allow-flip", is_flag=True, help="Allow views with flip where left and right are labels.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of a folder's class split and of random weights.",
)
@console.json_option
@click.version_option(package_name="mastaf")
def command(json_file: Path | None, **options: Any) -> int:
    """Turn each video of a data set into a feature cube, once, and keep the cubes in a store.

    A run that was stopped continues where it was with the same command. A video that cannot be decoded is a failed
    row with its reason, and does not stop the others; after mending files the same command does those alone. ROOT of
    the data set `folder` is {train,val,test}/CLASS/VIDEO or CLASS/VIDEO; a video is a file in any container that ffmpeg
    reads, or a folder of frames. A CSV file has the columns path, class and, optionally, split and group (the recording
    a clip is cut from).

    \b
    Examples:
      mastaf-extract --backbone r3d-tiny --dataset motion
      mastaf-extract --backbone r3d --weights r3d50_KMS_200ep.pth --dataset hmdb51 --root /data/hmdb51
      mastaf-extract --backbone r3d --dataset hmdb51 --root /data/hmdb51 --labels kinetics700.txt
      mastaf-extract --backbone r3d --dataset ucf101 --root /data/ucf101 --views plain,t1,t2,flip,t1+flip
      mastaf-extract --backbone r3d-tiny --dataset folder --root my_videos --out runs/mine.zarr
      mastaf-extract --backbone tsn --time mean --dataset hmdb51 --root /data/hmdb51
      mastaf-extract --backbone hf:facebook/dinov2-base --dataset folder --root my_videos
      mastaf-extract --backbone r3d --layer layer3,layer4 --dataset hmdb51 --root /data/hmdb51
      mastaf-extract --backbone r3d-tiny --dataset motion --out s3://bucket/motion.zarr
      mastaf-extract --backbone r3d --weights random --dataset folder --root my_videos --limit 4 --out /tmp/try.h5

    Exit status: 0 done, 1 done but some videos failed, 2 wrong input, 75 stopped by the machine or by SIGTERM (run
    again to continue), 130 interrupted.
    """
    report = run_command(**options)
    console.write_summary(json_file, report)
    failed = any(store["failed"] for store in report["stores"])
    return console.FINISHED_WITH_FAILURES if failed else console.DONE


def run_command(
    *,
    backbone: str,
    dataset: str,
    root: Path | None,
    split_files: Path | None,
    follow_links: bool,
    out: StorePath | None,
    weights: str | None,
    revision: str | None,
    labels: Path | None,
    frames: int | None,
    size: int | None,
    resize: str,
    layers: tuple[str, ...],
    time: str,
    devices: str,
    compress: str | None,
    timeout: float,
    seed: int,
    **options: Any,
) -> dict[str, Any]:
    """What the command does; returns what `--json` holds. Other options are those of `run.extract`."""
    find_loader(backbone)  # not imported yet
    if options["limit"] is not None and out is None:
        raise click.UsageError("--limit needs --out, so that an unfinished store is not taken for the data set's")
    from ..cache.store import store_class
    from .label_list import compare, read_labels
    from .views import check_sampling

    # What costs nothing to check is checked before a data set is read or rendered.
    outs = outs_of(out or default_out(dataset, root, backbone), layers)
    for place in outs:
        store_class(place)
    check_sampling(options["views"], options["sampling"])
    known = read_labels(labels) if labels is not None else None
    videos = find_dataset(dataset, root=root, split_files=split_files, seed=seed, follow_links=follow_links)
    say_what_was_found(videos)
    overlap = compare(known, videos.index) if known is not None else None

    from .backbones.registry import load_layers
    from .run import extract_layers

    how = {"frames": frames, "size": size, "resize": resize, "time": time, "revision": revision, "seed": seed}
    networks = load_layers(backbone, layers=layers, weights=weights, **how)
    for place, cubes in zip(outs, networks, strict=True):
        shape = " x ".join(map(str, cubes.cube_shape))
        console.say(
            f"store: {place} (cubes of {shape} by {backbone} at {cubes.layer}, weights: {cubes.weights_source})"
        )
    if overlap is not None:
        say_overlap(overlap, networks[0].facts)
    line = shlex.join(["mastaf-extract", *sys.argv[1:]])
    options |= {"device": devices, "compress": compress or "", "command": line, "overlap": overlap}
    options["timeout_s"] = timeout
    summaries = extract_layers(videos, networks, outs=outs, **options)
    for place, summary in zip(outs, summaries, strict=True):
        if len(outs) > 1:
            console.say(f"{place}:")
        say_what_was_done(summary, place)
        say_what_is_next(summary, place, videos.index)
    stores = [summary.to_json() | {"store": str(place)} for place, summary in zip(outs, summaries, strict=True)]
    # One store is the usual case, and its summary stands at the top; with several, that of the last layer.
    found = {"label_overlap": None if overlap is None else overlap.to_json()}
    return stores[-1] | {"stores": stores} | found | _about(videos)


def _about(videos: VideoSet) -> dict[str, Any]:
    return {
        "dataset": videos.name,
        "split_scheme": videos.split_scheme,
        "coverage": list(videos.coverage),
        "ignored": videos.ignored,
        "absent": list(videos.absent),
        "notes": list(videos.notes),
    }


def default_out(dataset: str, root: Path | None, backbone: str) -> Path:
    """cache/<dataset>_<backbone>.zarr; one's own folder goes by its name, a CSV file by its name without suffix."""
    if dataset == "folder" and root is not None:
        name = root.resolve().name
    else:
        name = dataset if dataset in DATASETS else Path(dataset).stem
    name = re.sub(r"[^\w.-]+", "-", f"{name}_{backbone.removeprefix('hf:')}")
    return Path("cache") / f"{name}.zarr"


def outs_of(out: StorePath, layers: Sequence[str]) -> list[StorePath]:
    """The store of each layer: `out` for one, `<out>_<layer>` for several. ExtractError if one is asked for twice."""
    if len(set(layers)) < len(layers):
        raise ExtractError(f"layer ({','.join(layers)}) must name each stage once")
    if len(layers) < 2:
        return [out]
    return [out.with_name(f"{out.stem}_{layer}{out.suffix}") for layer in layers]


def main() -> None:
    """Entry point of `mastaf-extract`."""
    spin_briefly()
    console.run(command)
