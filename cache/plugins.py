"""Names that a table of ours has, and those that other distributions bring as entry points.

A distribution names what it brings in its pyproject.toml, and nothing of it is imported before its name is asked for:

    [project.entry-points."mastaf.backbones"]
    NAME = "package.module:load"
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from .console import unknown_name


@dataclass(frozen=True)
class Target:
    """Where the object behind a name is. target: `module:attribute`; distribution: who brings it, '' for us."""

    name: str
    target: str
    distribution: str = ""


@dataclass(frozen=True)
class NameTable:
    """The names of one kind of thing. noun: such as `backbone`; group: of the entry points; built_in: name -> target;
    error: raised as error(message); fault: likewise, of a plug-in that is broken, None for `error`."""

    noun: str
    group: str
    built_in: Mapping[str, str]
    error: type[Exception]
    fault: type[Exception] | None = None

    def names(self) -> tuple[str, ...]:
        """All names: the table's, then those of plug-ins. Imports none of them."""
        return (*self.built_in, *sorted({plugin.name for plugin in self._plugins()} - set(self.built_in)))

    def find(self, name: str, *, entry: str | None = None) -> Target:
        """The target of a name, not imported; entry: under which the table has it. Raises `error` for an unknown
        name, or one that two want."""
        wanted = [plugin for plugin in self._plugins() if plugin.name == name]
        if (entry or name) in self.built_in:
            if wanted:
                # Not silently ours: a plug-in's name that a later version of the table takes would mean another thing.
                raise self.error(
                    f"{self.noun} '{name}' is built in, and {_distributions(wanted)} brings a plug-in of the same "
                    "name; uninstall it, or rename its entry point"
                )
            return Target(name, self.built_in[entry or name])
        if not wanted:
            raise self.error(unknown_name(self.noun, name, self.names()))
        if len(wanted) > 1:
            raise self.error(
                f"{self.noun} '{name}' is brought by {_distributions(wanted)}; uninstall one, or rename its entry point"
            )
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise self.error(
                f"{self.noun} '{name}' of distribution {wanted[0].distribution} must have a name of letters, digits, "
                "'.', '_' and '-'; rename its entry point"
            )
        return wanted[0]

    def load(self, found: Target) -> Any:
        """Import what a name stands for. Raises `error` when a plug-in cannot be imported, whatever its reason."""
        point = metadata.EntryPoint(found.name, found.target, self.group)
        if not found.distribution:
            return point.load()
        try:
            return point.load()
        except Exception as error:
            raise self.broken(found, reason_of(error)) from error

    def broken(self, found: Target, reason: str) -> Exception:
        """The error of a plug-in that is not what it should be."""
        return (self.fault or self.error)(
            f"{self.noun} '{found.name}' of distribution {found.distribution} cannot be imported from {found.target} "
            f"({reason}); mend or uninstall that distribution"
        )

    def _plugins(self) -> list[Target]:
        points = metadata.entry_points(group=self.group)
        return [Target(point.name, point.value, _distribution(point)) for point in points]


def reason_of(error: BaseException) -> str:
    """An exception in one line: its kind, and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _distribution(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "without a name"


def _distributions(plugins: list[Target]) -> str:
    return " and ".join(sorted(f"distribution {plugin.distribution}" for plugin in plugins))
