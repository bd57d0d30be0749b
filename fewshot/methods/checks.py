"""Checks of the keywords of methods, each an error in one line."""

import math
from collections.abc import Sequence
from typing import Any

from ...cache.console import unknown_name
from ..errors import FewShotError


def require_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise FewShotError unless the value is one of the choices."""
    if value not in choices:
        raise FewShotError(unknown_name(name, str(value), choices))


def require_number(name: str, value: Any, *, least: float = 0.0, above: bool = False) -> None:
    """Raise FewShotError unless the value is a number of at least `least`, or above it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least or (above and value == least):
        raise FewShotError(f"{name} ({value!r}) must be a number {'above' if above else 'of at least'} {least:g}")


def require_count(name: str, value: Any, *, least: int = 1) -> None:
    """Raise FewShotError unless the value is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise FewShotError(f"{name} ({value!r}) must be a whole number of at least {least}")


def require_share(name: str, value: Any) -> None:
    """Raise FewShotError unless the value is a number from 0 to below 1."""
    require_number(name, value)
    if value >= 1:
        raise FewShotError(f"{name} ({value!r}) must be below 1")


def require_flag(name: str, value: Any) -> None:
    """Raise FewShotError unless the value is True or False."""
    if not isinstance(value, bool):
        raise FewShotError(f"{name} ({value!r}) must be True or False")
