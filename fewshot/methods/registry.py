"""Methods by name: loaded when asked for, never before."""

from importlib import import_module

from ...cache.console import unknown_name
from ..errors import FewShotError
from . import METHODS
from .base import Method


def load_method(name: str) -> type[Method]:
    """The class of a method in the table. Raises FewShotError with the closest names."""
    if name not in METHODS:
        raise FewShotError(unknown_name("method", name, METHODS))
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)
