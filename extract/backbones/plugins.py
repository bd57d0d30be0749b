"""Which backbones there are by name: those of the table, and plug-ins, which other distributions bring.

A distribution names its loader in its pyproject.toml, and nothing of it is imported before its name is asked for:

    [project.entry-points."mastaf.backbones"]
    NAME = "package.module:load"
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from ...cache.console import unknown_name
from ..errors import ExtractError
from . import BACKBONES

GROUP = "mastaf.backbones"
HUB = "hf:"  # begins the names of a family: the table has it as hf:MODEL_ID


@dataclass(frozen=True)
class Loader:
    """Where a backbone's load function is. target: `module:function`; distribution: who brings it, '' for us."""

    name: str
    target: str
    distribution: str = ""

    def load(self) -> Callable[..., Any]:
        """Import the function. ExtractError when a plug-in cannot be imported, whatever its reason."""
        point = metadata.EntryPoint(self.name, self.target, GROUP)
        if not self.distribution:
            return point.load()
        try:
            function = point.load()
            if not callable(function):
                raise TypeError(f"{point.attr} is no function")
            return function
        except Exception as error:
            raise ExtractError(
                f"backbone '{self.name}' of distribution {self.distribution} cannot be imported from {self.target} "
                f"({reason_of(error)}); mend or uninstall that distribution"
            ) from error


def backbone_names() -> tuple[str, ...]:
    """All names: the table's, then those of plug-ins. Imports none of them."""
    return (*BACKBONES, *sorted({loader.name for loader in _plugins()} - set(BACKBONES)))


def find_loader(name: str) -> Loader:
    """The loader of a name, not imported. ExtractError for an unknown name, or one that two want."""
    wanted = [loader for loader in _plugins() if loader.name == name]
    entry = f"{HUB}MODEL_ID" if name.startswith(HUB) else name
    if entry in BACKBONES:
        if wanted:
            # Not silently ours: a plug-in's name that a later version of the table takes would mean another network.
            raise ExtractError(
                f"backbone '{name}' is built in, and {_distributions(wanted)} brings a plug-in of the same name; "
                "uninstall it, or rename its entry point"
            )
        return Loader(name, BACKBONES[entry])
    if not wanted:
        raise ExtractError(unknown_name("backbone", name, backbone_names()))
    if len(wanted) > 1:
        raise ExtractError(
            f"backbone '{name}' is brought by {_distributions(wanted)}; uninstall one, or rename its entry point"
        )
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ExtractError(
            f"backbone '{name}' of distribution {wanted[0].distribution} must have a name of letters, digits, "
            "'.', '_' and '-'; rename its entry point"
        )
    return wanted[0]


def reason_of(error: BaseException) -> str:
    """An exception in one line: its kind, and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _plugins() -> list[Loader]:
    return [Loader(point.name, point.value, _distribution(point)) for point in metadata.entry_points(group=GROUP)]


def _distribution(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "without a name"


def _distributions(loaders: list[Loader]) -> str:
    return " and ".join(sorted(f"distribution {loader.distribution}" for loader in loaders))
