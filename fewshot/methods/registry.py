"""Methods by name, of the table and of the entry-point group `mastaf.methods`: loaded when asked for, never before."""

from typing import TYPE_CHECKING

from ...cache.plugins import NameTable, Target
from ..errors import FewShotError
from . import METHODS

if TYPE_CHECKING:
    from .base import Method

_NAMES = NameTable("method", "mastaf.methods", METHODS, FewShotError)
_READOUTS = ("vec", "seq", "cube")


def method_names() -> tuple[str, ...]:
    """All names: the table's, then those of plug-ins. Imports none of them."""
    return _NAMES.names()


def find_method(name: str) -> Target:
    """Where a method's class is, not imported. Raises FewShotError for an unknown name, or one that two want."""
    return _NAMES.find(name)


def load_method(name: str) -> "type[Method]":
    """The class of a method. Raises FewShotError with the closest names, and for a plug-in that is no method."""
    found = find_method(name)
    method = _NAMES.load(found)
    if found.distribution and (wrong := _what_is_wrong(method)):
        raise _NAMES.broken(found, wrong)
    return method


def _what_is_wrong(method: object) -> str:
    """What keeps a plug-in's class from being a method, '' where nothing does."""
    from .base import Defaults, Method, Needs

    if not (isinstance(method, type) and issubclass(method, Method)):
        return "it must be a subclass of mastaf.fewshot.methods.base.Method"
    if method.readout not in _READOUTS:
        return f"its readout ({method.readout!r}) must be one of {', '.join(_READOUTS)}"
    if not isinstance(method.needs, Needs) or not isinstance(method.defaults, Defaults):
        return "its needs and defaults must be Needs(...) and Defaults(...)"
    return ""
