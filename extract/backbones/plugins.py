"""Which backbones there are by name: those of the table, and plug-ins of the entry-point group `mastaf.backbones`."""

from collections.abc import Callable
from typing import Any

from ...cache.plugins import NameTable, Target
from ..errors import ExtractError
from . import BACKBONES

HUB = "hf:"  # begins the names of a family: the table has it as hf:MODEL_ID
_NAMES = NameTable("backbone", "mastaf.backbones", BACKBONES, ExtractError)


def backbone_names() -> tuple[str, ...]:
    """All names: the table's, then those of plug-ins. Imports none of them."""
    return _NAMES.names()


def find_loader(name: str) -> Target:
    """Where a backbone's load function is, not imported. ExtractError for an unknown name, or one that two want."""
    return _NAMES.find(name, entry=f"{HUB}MODEL_ID" if name.startswith(HUB) else name)


def import_loader(found: Target) -> Callable[..., Any]:
    """Import the function. ExtractError when a plug-in cannot be imported, whatever its reason."""
    function = _NAMES.load(found)
    if not callable(function):
        raise _NAMES.broken(found, f"TypeError: {found.target.partition(':')[2]} is no function")
    return function
