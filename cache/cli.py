"""`mastaf-cache`: look into a store of cubes, check it, convert it, unlock it, hand its cubes to other programs."""

from collections import Counter
from pathlib import Path
from typing import Any

import click

from . import console
from .export_names import FORMATS
from .index import SPLITS
from .place import StorePath
from .text import shown

_STORE = click.argument("path", metavar="STORE", type=console.STORE)
_SHOWN = 10


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mastaf")
def cli() -> None:
    """Look into a store of feature cubes, check it, convert it, unlock it, export it.

    \b
    Examples:
      mastaf-cache info cache/hmdb51_r3d.zarr
      mastaf-cache verify cache/hmdb51_r3d.zarr
      mastaf-cache convert cache/hmdb51_r3d.zarr cache/hmdb51_r3d.h5
      mastaf-cache export cache/hmdb51_r3d.zarr exported/ --format webdataset
    """


@cli.command()
@_STORE
@console.json_option
def info(path: StorePath, json_file: Path | None) -> None:
    """Show what is in STORE: recipe, counts, coverage per class and split, size, failures, provenance.

    \b
    Example:
      mastaf-cache info cache/hmdb51_r3d.zarr --json info.json
    """
    from .describe import describe_store
    from .info_text import info_lines
    from .store import open_store

    facts = describe_store(open_store(path))
    for line in info_lines(facts):
        console.say(line)
    console.write_summary(json_file, facts)


@cli.command()
@_STORE
@console.json_option
def verify(path: StorePath, json_file: Path | None) -> int:
    """Check every file, shape and checksum of STORE, and look for NaN and Inf. Exit status 1 names bad rows.

    \b
    Example:
      mastaf-cache verify cache/hmdb51_r3d.zarr
    """
    from .store import open_store
    from .verify import count_states, verify_store

    store = open_store(path)
    with console.Progress(len(store.index), "verify", "rows") as progress:
        bad = verify_store(store, advance=progress.advance)
    for row in bad:
        console.say(f"bad: '{shown(row.key)}' (row {row.row}): {shown(row.reason)}")
    counts = count_states(store)
    console.say(f"{path}: {', '.join(f'{n} {state}' for state, n in counts.items())}; {len(bad)} bad")
    facts = {"path": str(path), "rows": counts, "bad": [row.to_json() for row in bad]}
    console.write_summary(json_file, facts)
    return console.FINISHED_WITH_FAILURES if bad else console.DONE


@cli.command()
@click.argument("source", type=console.STORE)
@click.argument("target", type=console.STORE)
@click.option("--compress", type=click.Choice(["zstd"]), help="Compress the cubes of TARGET (.zarr only).")
@console.json_option
def convert(source: StorePath, target: StorePath, compress: str | None, json_file: Path | None) -> None:
    """Copy the store SOURCE to TARGET in the format of its suffix (.zarr or .h5), bit for bit.

    A store that is not finished is copied as it is, and an extraction to TARGET continues it. Either may be in object
    storage (s3://BUCKET/NAME.zarr); a copy to there that was stopped is finished by the same command.

    \b
    Examples:
      mastaf-cache convert cache/hmdb51_r3d.zarr cache/hmdb51_r3d.h5
      mastaf-cache convert cache/hmdb51_r3d.zarr s3://bucket/hmdb51_r3d.zarr
    """
    from .convert import convert_store
    from .describe import stored_bytes
    from .store import open_store, writer_lock
    from .verify import count_states

    rows = len(open_store(source).index)
    with writer_lock(target), console.Progress(rows, "convert", "rows") as progress:
        store = convert_store(source, target, compress=compress or "", advance=progress.advance)
    size, counts = stored_bytes(store), count_states(store)
    unfinished = f" ({counts['done']} of them done, {counts['missing']} missing)" if counts["missing"] else ""
    console.say(f"{target}: {rows} rows{unfinished}, {size / 1e6:.1f} MB")
    facts = {"source": str(source), "target": str(target), "rows": rows, "states": counts, "bytes": size}
    console.write_summary(json_file, facts)


@cli.command()
@_STORE
@click.option("--force", is_flag=True, help="Also a lock whose holder cannot be checked from here.")
@console.json_option
def unlock(path: StorePath, force: bool, json_file: Path | None) -> None:
    """Remove the lock that a writer of STORE left, where it is not taken over by itself.

    A writer that died on this machine needs no unlocking. On a disk that several machines share, a holder elsewhere
    cannot be checked: make sure that it is gone, and give --force. A living process of this machine keeps its lock.

    \b
    Example:
      mastaf-cache unlock --force /shared/hmdb51_r3d.zarr
    """
    from .store import unlock as remove

    done = remove(path, force=force)
    console.say(done)
    console.write_summary(json_file, {"path": str(path), "done": done})


@cli.command()
@_STORE
@click.argument("out", type=console.STORE)
@click.option("--format", type=click.Choice(list(FORMATS)), required=True)
@click.option("--split", type=click.Choice(SPLITS), help="Only this split  [default: all].")
@click.option("--view", metavar="NAME", default="plain", show_default=True, help="Which view of each video.")
@click.option(
    "--shard-mb",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Size of a file of several videos (webdataset, safetensors), about.",
)
@console.json_option
def export(path: StorePath, out: StorePath, shard_mb: int, json_file: Path | None, **options: Any) -> int:
    """Write the cubes of STORE into the new folder OUT, for other programs; OUT appears whole or not at all.

    npz: a file for each video. webdataset: tar files of NAME.cube.npy and NAME.json. safetensors: files of one tensor
    `cubes` [m, c, t, h, w]. OUT/index.json says where each video's cube is, and which rows were left out because they
    failed or are missing; then the exit status is 1.

    \b
    Examples:
      mastaf-cache export cache/hmdb51_r3d.zarr hmdb51_npz --format npz --split test
      mastaf-cache export cache/hmdb51_r3d.zarr hmdb51_wds --format webdataset --shard-mb 500
    """
    from .export import export_store
    from .store import open_store, writer_lock

    if not isinstance(out, Path):
        raise click.UsageError(f"out ({out}) must be a folder of a disk; export there, and copy it to object storage")
    store = open_store(path)
    with writer_lock(out), console.Progress(len(store.index), "export", "rows") as progress:
        index = export_store(store, out, shard_bytes=shard_mb * 1_000_000, advance=progress.advance, **options)
    states = Counter(video["state"] for video in index["left_out"])
    absent = "".join(f", {count} {state} left out" for state, count in sorted(states.items()))
    console.say(f"{out}: {len(index['videos'])} videos{absent}")
    for video in index["left_out"][:_SHOWN]:
        console.say(f"left out: {shown(video['key'])}: {shown(video['reason'])}")
    if len(index["left_out"]) > _SHOWN:
        console.say(f"... and {len(index['left_out']) - _SHOWN} more: {out / 'index.json'} has them all")
    facts = {"store": str(path), "out": str(out), "format": index["format"], "videos": len(index["videos"])}
    console.write_summary(json_file, facts | {"recipe": index["recipe"], "left_out": index["left_out"]})
    return console.FINISHED_WITH_FAILURES if index["left_out"] else console.DONE


def main() -> None:
    """Entry point of `mastaf-cache`."""
    console.run(cli)
