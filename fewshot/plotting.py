"""What plots share: the extra that draws them, and marks that can be told apart."""

from pathlib import Path
from typing import Any

from ..cache.atomic import atomic_path
from ..cache.console import say
from ..cache.errors import CacheError
from ..cache.extras import require_extra

# Colours that the colour-blind tell apart (Okabe and Ito), with a marker each for print in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def can_plot() -> bool:
    """Whether matplotlib is there; says in a line where it is not."""
    try:
        require_extra("matplotlib", extra="plots", wanted_by="the plot")
    except CacheError as error:
        say(f"no plot: {error}")
        return False
    return True


def mark(number: int) -> tuple[str, str]:
    """Colour and marker of a system: 49 pairs, the first seven without a colour or marker twice."""
    turn = number // len(_COLOURS)
    return _COLOURS[number % len(_COLOURS)], _MARKERS[(number + turn) % len(_MARKERS)]


def tidy(panel: Any) -> None:
    """A light grid behind, and no box."""
    panel.grid(visible=True, which="major", color="0.88", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def plain_logarithms(axis: Any) -> None:
    """Ticks at 1, 2 and 5 of every power of ten, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(NullLocator())


def save(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
