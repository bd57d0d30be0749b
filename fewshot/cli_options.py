"""Options that several commands of `mastaf-fewshot` share, and what they mean to the functions behind them."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ..cache.completion import Names
from ..cache.console import STORE as STORE_TYPE
from ..cache.console import several
from .cubes.residence import BANKS
from .methods.registry import method_names
from .training.optimisation import OPTIMISERS, PRECISIONS, SCHEDULES

Command = Callable[..., Any]

_POSITIVE = click.FloatRange(0, min_open=True)

# Names of the method's own keywords on the command line -> its keyword and what a flag means.
_KEYWORDS: dict[str, tuple[str, Any]] = {
    "preset": ("preset", None),
    "variant": ("variant", None),
    "no_meta_learner": ("meta_learner", False),
    "no_residual": ("residual", False),
    "adapter": ("adapter", True),
    "global_weight": ("global_weight", None),
    "tau": ("tau", None),
    "bottleneck": ("bottleneck", None),
}
# Options that are not called as their variable.
_NAMES = {"global_weight": "--lambda"}


def path_option(*names: str, **settings: Any) -> Command:
    """An option that takes a path."""
    return click.option(*names, type=click.Path(path_type=Path), **settings)


def shots(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """`1,5` -> (1, 5)."""
    if value is None:
        return None
    try:
        numbers = tuple(int(part) for part in value.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise click.BadParameter(f"'{value}' must be different positive numbers separated by commas, such as 1,5")
    return numbers


BANK = click.option(
    "--bank", type=click.Choice(BANKS), help="Where the cubes stay meanwhile  [default: where they fit]."
)
FEATURES = click.option(
    "--features",
    type=STORE_TYPE,
    metavar="STORE",
    required=True,
    help="Store of cubes: a path, or s3://BUCKET/NAME.zarr.",
)
READING = several(
    click.option("--allow-partial", is_flag=True, help="Use what an unfinished extraction has."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N or auto."),
    BANK,
)
STORE = several(FEATURES, READING)


class MethodOption(click.Option):
    """An option that names methods; its help lists them as they are when it is printed: plug-ins may come and go."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return record and (record[0], record[1].replace("METHODS", ", ".join(method_names())))


METHODS = Names(method_names, several=True)
METHOD = several(
    click.option(
        "--method", metavar="NAME", type=Names(method_names), cls=MethodOption, help="METHODS  [default: mastaf]."
    ),
    click.option("--variant", metavar="NAME", help="A method's, such as full, neighbor, fce or memory."),
    click.option(
        "--set",
        "more_keywords",
        multiple=True,
        metavar="NAME=VALUE",
        help="Another keyword of the method, such as cardinalities=2,3 or tokens=space; may be repeated.",
    ),
)
PRESET = click.option(
    "--preset",
    metavar="NAME",
    help="code (as its authors' code does) or paper (as its equations say)  [default: code].",
)
SWITCHES = several(
    PRESET,
    click.option("--adapter", is_flag=True, help="Train an adapter in front (another kind of features)."),
    click.option(
        "--lambda",
        "global_weight",
        type=click.FloatRange(0),
        metavar="X",
        help="Weight of the global loss  [default: 2].",
    ),
    click.option("--tau", type=_POSITIVE, metavar="X", help="Temperature of the attention  [default: 0.025]."),
    click.option(
        "--bottleneck",
        type=click.IntRange(1),
        metavar="N",
        help="Width of the meta-learner, the paper's l  [default: 6].",
    ),
)
PARTS = several(
    click.option("--no-meta-learner", is_flag=True, help="Give every position equal weight."),
    click.option("--no-residual", is_flag=True, help="Re-weight positions by the attention alone."),
)
QUERIES = several(
    click.option(
        "--query-mode",
        type=click.Choice(["single", "per_class"]),
        help="One query an episode, or --queries of each class  [default: the method's, single].",
    ),
    click.option("--queries", type=click.IntRange(1), help="Queries of each class with --query-mode per_class."),
)
LR = click.option("--lr", type=_POSITIVE, metavar="X", help="Learning rate  [default: the method's, 0.01].")
OPTIMISATION = several(
    click.option("--optimiser", type=click.Choice(OPTIMISERS), help="[default: the method's, sgd]"),
    click.option(
        "--weight-decay",
        type=click.FloatRange(0),
        metavar="X",
        help="[default: the method's, 0; with another --optimiser its usual one]",
    ),
    click.option("--schedule", type=click.Choice(SCHEDULES), help="Of the learning rate  [default: constant]."),
    click.option(
        "--step-every",
        type=click.IntRange(1),
        metavar="N",
        help="With --schedule step: episodes a stage  [default: a third].",
    ),
    click.option(
        "--step-factor", type=_POSITIVE, metavar="X", help="With --schedule step: lr of the next stage  [default: 0.1]."
    ),
    click.option("--clip-norm", type=_POSITIVE, metavar="X", help="Shorten gradients to this norm  [default: as is]."),
    click.option(
        "--label-smoothing",
        type=click.FloatRange(0, 1, max_open=True),
        metavar="X",
        help="Share of a label spread over all classes  [default: 0].",
    ),
    click.option(
        "--train-precision",
        type=click.Choice(PRECISIONS),
        help="bf16: losses in mixed precision, gradients a few % off  [default: fp32].",
    ),
)
SCHEDULE = several(
    click.option(
        "--train-episodes",
        type=click.IntRange(1),
        metavar="N",
        help="Training episodes  [default: as published, 4000].",
    ),
    click.option(
        "--batch", type=click.IntRange(1), metavar="B", help="Episodes an update  [default: as published, 32]."
    ),
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Seed of training."),
    click.option(
        "--val-episodes", type=click.IntRange(2), metavar="N", help="Val episodes to select by  [default: 1000]."
    ),
    click.option(
        "--val-every",
        type=click.IntRange(1),
        metavar="N",
        help="Validate every N episodes  [default: a 20th, at least 1000].",
    ),
    click.option(
        "--patience", type=click.IntRange(1), metavar="N", help="Stop after N validations without a better one."
    ),
)
TRAINING = several(LR, OPTIMISATION, SCHEDULE)
SELECT_ON = click.option(
    "--select-on",
    type=click.Choice(["val", "test"]),
    help="test: only to reproduce numbers of papers that did so; stamped on every result  [default: val].",
)
SEEDS = click.option(
    "--seeds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Train everything with N seeds, from --seed on, and report the spread between them.",
)
LIST = several(
    click.option("--list-seed", type=click.IntRange(0, 2**63 - 1), help="Seed of the list of episodes  [default: 0]."),
)


PRECISION = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="bf16: relation maps in half precision, for sweeps; stamped, and never mixed in a table  [default: fp32].",
)

ALLOW_SEEN_CLASSES = click.option(
    "--allow-seen-classes",
    "--allow-overlap",
    is_flag=True,
    help="Score classes that the head, or the backbone in fine-tuning, was trained on; recorded.",
)


def episodes_from(*more: str) -> Command:
    """The option --episodes-from, with more choices than the two kinds of episodes."""
    return click.option(
        "--episodes-from",
        type=click.Choice(["random", "source-disjoint", *more]),
        help="source-disjoint: no support is cut from the recording of a query of its class"
        + ("; both: score both, and their gap  [default: random]." if more else "  [default: random]."),
    )


def method_keywords(options: dict[str, Any]) -> dict[str, Any]:
    """Take the method's own options out of `options`: keywords of `build`, those that were given alone.

    Raises click.UsageError for options that contradict each other.
    """
    found = {}
    for option, (keyword, meaning) in _KEYWORDS.items():
        value = options.pop(option, None)
        if value is not None and value is not False:
            found[keyword] = value if meaning is None else meaning
    for text in options.pop("more_keywords", ()):
        name, value = _keyword(text)
        if name in found:
            raise click.UsageError(f"'{name}' is given twice; leave one out")
        found[name] = value
    if found.get("variant") == "neighbor" and ("meta_learner" in found or "residual" in found):
        raise click.UsageError(
            "--variant neighbor has no attention, so --no-meta-learner and --no-residual change nothing; leave them out"
        )
    return found


def _keyword(text: str) -> tuple[str, Any]:
    """`tokens=space` -> ("tokens", "space"); numbers, true, false and lists such as 2,3 become what they say."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or not value:
        raise click.UsageError(f"--set '{text}' must be NAME=VALUE, such as cardinalities=2,3")
    for json_text in (value, f"[{value}]"):
        with suppress(json.JSONDecodeError):
            return name, json.loads(json_text)
    return name, value


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """The options of a command line that mean these keyword arguments of `train`: the inverse of what is above."""
    named = {keyword for keyword, _ in _KEYWORDS.values()}
    keywords = settings.get("method_keywords") or {}
    flat = {**settings, **{name: value for name, value in keywords.items() if name in named}}
    flat.pop("method_keywords", None)
    for option, (keyword, meaning) in _KEYWORDS.items():
        if keyword in flat:
            value = flat.pop(keyword)
            flat[option] = value if meaning is None else value == meaning
    words: list[str] = []
    for option, value in flat.items():
        name = _NAMES.get(option, f"--{option.replace('_', '-')}")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words += [name, str(value)]
    for name, value in keywords.items():
        if name not in named:
            words += ["--set", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return words


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that have a value."""
    return {name: value for name, value in options.items() if value is not None}
