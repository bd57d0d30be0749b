"""The page: templates filled, everything escaped, one file that asks for nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ...cache.checks import brief
from ...fewshot.statistics.paired import Difference
from ...fewshot.statistics.seed_spread import SeedSpread
from ...fewshot.statistics.table import interval, percent, points, small_p

_TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, **values: Any) -> str:
    """A template filled with values; what they hold cannot become markup."""
    return _environment().get_template(name).render(**values)


def markup(text: str) -> Any:
    """What `render` gave, to be put into another template as it is."""
    return _environment().filters["safe"](text)


def page(**values: Any) -> str:
    """The whole page. Only the style and the script that stand here may work in it, and nothing may be fetched."""
    style, script = (_read(name) for name in ("style.css", "page.js"))
    hashes = {"style_hash": _hash(style), "script_hash": _hash(script)}
    return render("page.html", style=markup(style), script=markup(script), **hashes, **values)


def _hash(text: str) -> str:
    """As a content security policy names an inline element."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    made.filters |= {
        "brief": lambda value, most=60: brief(value if isinstance(value, str) else str(value), most),
        "percent": lambda accuracy, half: percent(accuracy, half).replace("+-", "±"),
        "interval": lambda ends: interval(*ends),
        "points": points,
        "small_p": small_p,
        "alone": _alone,
        "seeds": _seeds,
        "spread": _spread,
    }
    return made


def _alone(difference: Difference) -> str:
    return "; ".join(f"{a} : {b}" for a, b in zip(difference.only_first, difference.only_second, strict=True))


def _seeds(seeds: Sequence[int | None]) -> str:
    return ", ".join("none" if seed is None else str(seed) for seed in seeds)


def _spread(spread: SeedSpread | None) -> str:
    if spread is None:
        return ""
    return f"sd {100 * spread.sd:.2f} ({100 * spread.low:.2f} to {100 * spread.high:.2f}), n = {spread.seeds}"
