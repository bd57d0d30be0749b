"""Packages that an extra of this project brings, and that only one feature needs."""

from importlib.util import find_spec

from .errors import CacheError


def require_extra(module: str, *, extra: str, wanted_by: str) -> None:
    """Raise CacheError, with the command that installs it, where `module` is not installed."""
    if find_spec(module) is None:
        raise CacheError(f"{wanted_by} needs the package {module}; install it with: pip install 'mastaf[{extra}]'")
