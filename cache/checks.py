"""Checks that a frozen dataclass makes of its own fields, and of JSON that a stranger may have written."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import fields
from itertools import repeat
from numbers import Integral, Real
from typing import Any, get_args, get_origin

from .errors import CacheError, CorruptStoreError
from .text import shown


def fit_fields(instance: Any) -> None:
    """Check every field of a frozen dataclass against its annotation, and make it exactly that type.

    JSON and numpy give lists for tuples and other kinds of number, and a digest must not depend on which. Knows
    str, bool, int, float (finite), tuple[...], dict[...], Any and classes. Raises CacheError naming the field.
    """
    for field in fields(instance):
        value = _fitted(getattr(instance, field.name), field.type, field.name)
        object.__setattr__(instance, field.name, value)


def _fitted(value: Any, kind: Any, name: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if origin is tuple and isinstance(value, list | tuple):
        kinds: Iterable[Any] = repeat(arguments[0]) if arguments[-1] is Ellipsis else arguments
        if arguments[-1] is Ellipsis or len(value) == len(arguments):
            return tuple(_fitted(v, k, name) for v, k in zip(value, kinds, strict=False))
    elif origin is dict and isinstance(value, dict):
        return {_fitted(k, arguments[0], name): _fitted(v, arguments[1], name) for k, v in value.items()}
    elif origin is None and kind not in (int, float) and isinstance(value, kind):
        return value
    words = "a finite number" if kind is float else kind.__name__ if origin is None else kind
    raise CacheError(f"{name} ({brief(value)}) must be {words}")


def require_keys(value: Any, known: Iterable[str], what: str) -> dict[str, Any]:
    """The dictionary, once it is one and has exactly the known keys; CacheError names the others."""
    if not isinstance(value, dict):
        raise CacheError(f"{what} must be a JSON object; this is not a store of mastaf, or it is damaged")
    wrong = sorted(set(known) ^ set(value))
    if wrong:
        raise CacheError(
            f"{what} has missing or unknown fields ({brief(', '.join(wrong))}); was the store made by another version?"
        )
    return value


def json_text(value: Any) -> bytes:
    """`value` as a file of indented UTF-8 JSON; NaN is refused: it is not JSON."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def json_digest(value: Any) -> str:
    """sha256 (hex) of a JSON value in canonical form: sorted names, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def parse_json(data: bytes, what: str) -> Any:
    """The JSON value in `data`; NaN, deep nesting and bad UTF-8 are a CorruptStoreError like any other damage."""
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CorruptStoreError(f"{what} is damaged or no JSON ({brief(error)})") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def brief(value: Any, most: int = 80) -> str:
    """`value` as one short printable line: what stands in a file may be long, or hold terminal codes."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, Exception) else repr(value)
    text = shown(" ".join(text.split()))
    return text if len(text) <= most else text[: most - 3] + "..."
