"""Methods by name, of the table and of the entry-point group `mastaf.methods`: loaded when asked for, never before."""

import hashlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...cache.console import FAULT, STOPPED, status_of
from ...cache.plugins import NameTable, Target, reason_of
from ..errors import FailedError, FewShotError
from . import METHODS

if TYPE_CHECKING:
    from .base import Method

_NAMES = NameTable("method", "mastaf.methods", METHODS, FewShotError, FailedError)
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


@contextmanager
def naming_plugin(name: str, doing: str) -> Iterator[None]:
    """Turn what a plug-in's code raises into one line that names it, a FailedError; other errors pass as they are."""
    try:
        yield
    except Exception as error:
        # A full disk is not the plug-in's fault, nor what this program says in a line of its own.
        status = status_of(error)
        if not (status != STOPPED if isinstance(error, OSError) else status == FAULT):
            raise
        found = find_method(name)
        if not found.distribution:
            raise
        raise FailedError(
            f"method '{name}' of distribution {found.distribution} failed while {doing} ({reason_of(error)}"
            f"{_place(error, load_method(name))}); mend or uninstall that distribution"
        ) from error


def plugin_code(name: str) -> dict[str, str]:
    """What code a plug-in is: `distribution` (name and version), `source` (sha256 of the file of its class).

    Empty for a method of the table, whose code is that of mastaf's version.
    """
    found = find_method(name)
    if not found.distribution:
        return {}
    return {"distribution": found.distribution, "source": _source_digest(load_method(name))}


@cache  # what was imported counts: the file may change while the command runs
def _source_digest(method: "type[Method]") -> str:
    """sha256 of the file that a class is from, '' where there is none to read."""
    path = _file_of(method)
    if path is None or not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(error: Exception, method: "type[Method]") -> str:
    """`, line 12 of FILE`: the last line of the class's file that the error came through; '' where it did not."""
    file = str(_file_of(method))
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]} of {file}" if lines else ""


def _file_of(method: "type[Method]") -> Path | None:
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    return None if file is None else Path(file)


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
