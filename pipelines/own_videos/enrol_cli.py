"""The command `mastaf enrol`."""

from pathlib import Path
from typing import Any

import click

from ...cache import console
from ...cache.place import StorePath
from ...cache.spec import TIMES
from ...extract.cli_options import BACKBONE, WEIGHTS
from ...fewshot import cli_options as options
from ...fewshot.sharing.cli import RUN

_SETTINGS = ("backbone", "revision", "layer", "time", "frames", "size", "resize", "precision", "checkpoint", "method")


def _pairs(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not value.strip("=").count("="):
            raise click.BadParameter(f"'{value}' must be OLD=NEW")
    return values


WHAT = console.several(
    options.path_option("--support", metavar="DIR", help="Folder of CLASS/VIDEO: the classes and their examples."),
    options.path_option("--out", metavar="FILE", required=True, help="File of the classes, such as my.classes."),
    options.path_option("--add", metavar="DIR", help="Add the clips in DIR/CLASS to the classes of FILE."),
    click.option("--remove", metavar="CLASS", multiple=True, help="Remove a class of FILE; may be repeated."),
    click.option(
        "--rename", metavar="OLD=NEW", multiple=True, callback=_pairs, help="Rename a class; may be repeated."
    ),
)
NETWORK = console.several(
    click.option(
        "--backbone",
        metavar="NAME",
        type=BACKBONE,
        help="See docs/backbones.md  [default: r3d-tiny, or the checkpoint's].",
    ),
    click.option(
        "--weights", metavar="FILE|DIR|hub|random", type=WEIGHTS, help="Weights of the backbone  [default: its own]."
    ),
    click.option("--revision", metavar="NAME", help="Branch, tag or commit of weights on the hub  [default: main]."),
    click.option("--layer", metavar="NAME", help="Stage whose output is the cube  [default: the last]."),
    click.option("--time", type=click.Choice(TIMES), help="mean: cubes averaged over time  [default: keep]."),
    click.option("--frames", type=click.IntRange(1), help="Frames a clip  [default: the backbone's]."),
    click.option("--size", type=click.IntRange(1), help="Side of a clip in pixels  [default: the backbone's]."),
    click.option("--resize", type=click.Choice(["squash", "short"]), help="As of mastaf-extract  [default: squash]."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="[default: auto]"),
)
HEAD = console.several(
    click.option(
        "--checkpoint",
        type=RUN,
        metavar="RUN",
        help="A trained head: folder of mastaf-fewshot train, head/ of a fine-tuning, or hf:USER/REPO[@REVISION].",
    ),
    options.METHOD,
    options.PRESET,
)
MEANING = console.several(
    click.option(
        "--calibrate",
        type=console.STORE,
        metavar="STORE",
        help="Learn what scores mean from this store of other videos, of the same recipe.",
    ),
    click.option(
        "--reject-rate",
        type=click.FloatRange(0, 1, max_open=True),
        metavar="X",
        help="Share of right answers that may be rejected  [default: 0.05].",
    ),
)
WORK = console.several(
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N."),
    click.option("--workers", type=click.IntRange(1), help="Decoding threads  [default: by cores]."),
    click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="Most that decoding one clip may take  [default: 120].",
    ),
)


@click.command("enrol")
@WHAT
@NETWORK
@HEAD
@MEANING
@WORK
@click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the folder.")
@console.json_option
def command(
    support: Path | None,
    out: Path,
    add: Path | None,
    remove: tuple[str, ...],
    rename: tuple[str, ...],
    calibrate: StorePath | None,
    json_file: Path | None,
    **given: Any,
) -> int:
    """Enrol classes of your own from a few clips each, for `mastaf classify`.

    DIR holds a folder for each class, with one clip or more: video files, or folders of frames. Nothing is trained,
    unless a --checkpoint brings a trained head. With two clips or more of each class, what a score means is learnt by
    leaving out each clip in turn. Run again on a changed DIR, only new clips are computed.

    \b
    Examples:
      mastaf enrol --support my_classes/ --out my.classes
      mastaf enrol --support my_classes/ --checkpoint runs/NAME --out my.classes
      mastaf enrol --add more_classes/ --remove walk --rename run=jog --out my.classes
    """
    keywords = options.method_keywords(given)
    changes = add is not None or bool(remove) or bool(rename)
    if (support is None) != changes:
        raise click.UsageError("give --support DIR to enrol, or --add, --remove or --rename to change FILE")
    settings = {**options.given(given), **({"method_keywords": keywords} if keywords else {})}
    if calibrate is not None:
        settings["calibrate"] = str(calibrate)
    fixed = [name for name in (*_SETTINGS, "method_keywords") if name in settings]
    if changes and fixed:
        raise click.UsageError(f"FILE fixes {', '.join(fixed)}; leave that out, or enrol anew with --support")
    from .enrolling import change, enrol

    if support is not None:
        found = enrol(support, out, **settings)
    else:
        found = change(out, add=add, remove=remove, rename=rename, **settings)
    console.write_summary(json_file, found)
    return console.FINISHED_WITH_FAILURES if found["failed"] else console.DONE
