"""The command `mastaf profile`."""

from pathlib import Path
from typing import Any

import click

from ..cache import console
from ..cache.completion import Names
from ..extract.backbones import BACKBONES
from ..fewshot.cli_options import METHODS as METHODS_TYPE
from ..fewshot.cli_options import MethodOption
from ..fewshot.methods import METHODS

# What Figures 4 and 5 of the paper compare, as far as the tables have it.
_BACKBONES = ",".join(name for name in ("tsn", "r3d") if name in BACKBONES)
_METHODS = ",".join(name for name in ("mastaf", "trx") if name in METHODS)
_FRAMES = "8,10,12,14,16"


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name for name in value.split(",") if name))
    if not names:
        raise click.BadParameter("it must be names separated by commas")
    return names


def _frames(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """`8:16` -> 8, 9, .. 16; `8,16` -> 8, 16."""
    try:
        numbers = [int(part) for part in value.replace(":", ",").split(",")]
    except ValueError:
        numbers = []
    if ":" in value:
        numbers = list(range(numbers[0], numbers[1] + 1)) if len(numbers) == 2 and "," not in value else []
    if not numbers or min(numbers) < 1:
        raise click.BadParameter(f"'{value}' must be numbers of at least 1, such as 8,12,16 or 8:16")
    return tuple(sorted(set(numbers)))


@click.command("profile")
@click.option(
    "--backbones",
    metavar="NAMES",
    type=Names(lambda: BACKBONES, several=True),
    default=_BACKBONES,
    show_default=True,
    callback=_names,
    help=f"Of {', '.join(BACKBONES)}.",
)
@click.option(
    "--methods",
    metavar="NAMES",
    type=METHODS_TYPE,
    default=_METHODS,
    show_default=True,
    callback=_names,
    cls=MethodOption,
    help="Heads, of METHODS.",
)
@click.option("--frames", default=_FRAMES, show_default=True, callback=_frames, help="Such as 8,12,16 or 8:16.")
@click.option("--size", type=click.IntRange(1), help="Side of a clip in pixels  [default: the backbone's].")
@click.option("--way", type=click.IntRange(2), default=5, show_default=True, help="Classes an episode.")
@click.option("--shot", type=click.IntRange(1), default=1, show_default=True, help="Examples of each class.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16", "auto"]),
    default="fp32",
    show_default=True,
    help="Of the backbone; the head is fp32.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads  [default: torch's].")
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True, help="Timed runs of each point.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    default="runs/profile",
    show_default=True,
    help="Folder of table and plot.",
)
@console.json_option
def command(json_file: Path | None, **given: Any) -> int:
    """FLOPs, parameters, latency and peak memory of backbone and head, per query video, against the number of frames.

    As Figures 4 and 5 of the paper. Weights are random: they change no cost. Each point is measured in a fresh
    process. DIR gets profile.csv and profile.png (extra: pip install 'mastaf[plots]').

    \b
    Examples:
      mastaf profile
      mastaf profile --backbones r3d,r3d-tiny --frames 8:16 --device cuda --precision bf16 --json costs.json
    """
    from .costs import profile, say_costs

    result = profile(**given)
    say_costs(result)
    console.write_summary(json_file, result)
    return console.DONE
