"""Options that a command line gave although a store that is there already has its own."""

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from ..cache import console
from ..cache.place import StorePath

LAYOUT = ("batch", "shard_rows", "compress")  # of new stores


def _given() -> list[str]:
    """Names of LAYOUT that do not stand at their defaults because nobody gave them."""
    context = click.get_current_context()
    return [name for name in LAYOUT if context.get_parameter_source(name) is not ParameterSource.DEFAULT]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def refuse_with_recheck(devices: str) -> None:
    """click.UsageError for options that `--recheck` would not follow."""
    given = _given()
    if given:
        raise click.UsageError(
            f"--recheck computes as the store was made; leave out {', '.join(_option(name) for name in given)}"
        )
    if "," in devices:
        raise click.UsageError(f"--recheck looks at one device; --devices ({devices}) must be one")


def say_what_is_kept(out: StorePath, options: Mapping[str, Any]) -> None:
    """A line where the store `out` is there already, and has another layout than the one that was asked for."""
    given = _given()
    if not given or not out.exists():
        return
    from ..cache.store import open_store

    header = open_store(out).header
    # A batch never crosses a shard.
    asked = {name: min(options[name], header.shard_rows) if name == "batch" else options[name] for name in given}
    other = [name for name in given if asked[name] != getattr(header, name)]
    if other:
        kept = ", ".join(f"{_option(name)} {getattr(header, name) or 'none'}" for name in other)
        console.say(f"{out} was begun before, and keeps its own {kept}")
