"""The command `mastaf-extract`: stage one, from videos to a store of feature cubes."""

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..cache import console
from ..cache.place import StorePath
from ..cache.threads import spin_briefly
from .backbones.plugins import find_loader
from .cli_options import EXTRACTION
from .datasets.by_name import find_dataset
from .datasets.videos import VideoSet
from .given import refuse_with_recheck, say_what_is_kept
from .out_names import default_out, outs_of
from .report import say_overlap, say_what_is_next, say_what_was_done, say_what_was_found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@EXTRACTION
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
      mastaf-extract --backbone r3d --dataset hmdb51 --root /data/hmdb51 --plan
      mastaf-extract --backbone r3d --dataset hmdb51 --root /data/hmdb51 --recheck 50
      mastaf-extract --backbone r3d --dataset hmdb51 --root /data/hmdb51 --labels kinetics700.txt
      mastaf-extract --backbone r3d --dataset ucf101 --root /data/ucf101 --views plain,t1,t2,flip,t1+flip
      mastaf-extract --backbone r3d-tiny --dataset folder --root my_videos --out runs/mine.zarr
      mastaf-extract --backbone tsn --time mean --dataset hmdb51 --root /data/hmdb51
      mastaf-extract --backbone hf:facebook/dinov2-base --dataset folder --root my_videos
      mastaf-extract --backbone r3d --layer layer3,layer4 --dataset hmdb51 --root /data/hmdb51
      mastaf-extract --backbone r3d-tiny --dataset motion --out s3://bucket/motion.zarr
      mastaf-extract --backbone r3d --weights random --dataset folder --root my_videos --limit 4 --out /tmp/try.h5
      mastaf-extract --backbone r3d --dataset hmdb51 --root /data/hmdb51 --devices cuda:0,cuda:1
      mastaf-extract --backbone r3d --dataset hmdb51 --root /shared/hmdb51 --cluster tcp://host:8786

    Exit status: 0 done, 1 done but some videos failed, or --recheck found other cubes, 2 wrong input, 75 stopped by
    the machine or by SIGTERM (run again to continue) or, also with --plan, its disk is too small, 130 interrupted.
    """
    report = run_command(**options)
    console.write_summary(json_file, report)
    return report["exit_status"]


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
    plan: bool,
    recheck: int | None,
    **options: Any,
) -> dict[str, Any]:
    """What the command does; returns what `--json` holds. Other options are those of `run.extract`."""
    find_loader(backbone)  # not imported yet
    if plan and recheck:
        raise click.UsageError("--plan and --recheck are two things to do; give one of them")
    if recheck:
        refuse_with_recheck(devices)
    if options["limit"] is not None and out is None:
        raise click.UsageError("--limit needs --out, so that an unfinished store is not taken for the data set's")
    from ..cache.store import store_class
    from .decoding.views import check_sampling
    from .labels.label_list import compare, read_labels

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
    from .looks import ask as looks
    from .run import extract_layers

    how = {"frames": frames, "size": size, "resize": resize, "time": time, "revision": revision, "seed": seed}
    load = partial(load_layers, backbone, layers=layers, weights=_absolute(weights), **how)
    networks = load_layers(backbone, layers=layers, weights=weights, **how)
    for place, cubes in zip(outs, networks, strict=True):
        shape = " x ".join(map(str, cubes.cube_shape))
        console.say(
            f"store: {place} (cubes of {shape} by {backbone} at {cubes.layer}, weights: {cubes.weights_source})"
        )
        say_what_is_kept(place, options | {"compress": compress})
    if overlap is not None:
        say_overlap(overlap, networks[0].facts)
    options |= {"device": devices, "compress": compress or "", "timeout_s": timeout}
    if plan or recheck:
        for name in ("cluster", "allow_mixed_devices"):
            if options.pop(name):
                raise click.UsageError(
                    f"--plan and --recheck look at this machine; leave out --{name.replace('_', '-')}"
                )
        look = looks.plan if plan else partial(looks.recheck, count=recheck or 0, seed=seed)
        return look(videos, networks, outs=outs, **options) | _about(videos)
    line = shlex.join(["mastaf-extract", *sys.argv[1:]])
    options |= {"command": line, "overlap": overlap, "load": load}
    summaries = extract_layers(videos, networks, outs=outs, **options)
    for place, summary in zip(outs, summaries, strict=True):
        if len(outs) > 1:
            console.say(f"{place}:")
        say_what_was_done(summary, place)
        say_what_is_next(summary, place, videos.index)
    stores = [summary.to_json() | {"store": str(place)} for place, summary in zip(outs, summaries, strict=True)]
    # One store is the usual case, and its summary stands at the top; with several, that of the last layer.
    found = {"label_overlap": None if overlap is None else overlap.to_json()}
    failed = any(store["failed"] for store in stores)
    status = console.FINISHED_WITH_FAILURES if failed else console.DONE
    return stores[-1] | {"stores": stores, "exit_status": status} | found | _about(videos)


def _about(videos: VideoSet) -> dict[str, Any]:
    return {
        "dataset": videos.name,
        "split_scheme": videos.split_scheme,
        "coverage": list(videos.coverage),
        "ignored": videos.ignored,
        "absent": list(videos.absent),
        "notes": list(videos.notes),
    }


def _absolute(weights: str | None) -> str | None:
    """A file's name as another process, standing elsewhere, may read it."""
    return str(Path(weights).absolute()) if weights and Path(weights).exists() else weights


def main() -> None:
    """Entry point of `mastaf-extract`."""
    spin_briefly()
    console.run(command)
