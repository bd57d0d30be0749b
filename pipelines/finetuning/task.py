"""What a recipe gives to the loop that trains it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from ...extract.backbones.base import Backbone

Part = tuple[Any, float]  # what `load` takes, and its share of the update


@dataclass(frozen=True, eq=False)
class Task:
    """A stream of batches, a loss, and what they train.

    base, head: trained in place; front: the last of the stages that are not run at all, None where all are. parts:
    number of an update -> its parts, a function of the run's settings and the number alone; load: a part -> the
    batch, in another thread; loss: of a batch, its mean, a scalar, and numbers to be reported with it. validate:
    accuracy on val and its half width, in evaluation mode; None where nothing selects. unit: of what is counted.
    """

    base: Backbone
    head: nn.Module
    parts: Callable[[int], Sequence[Part]]
    load: Callable[[Any], Any]
    loss: Callable[[Any], tuple[Tensor, dict[str, float]]]
    unit: str
    front: str | None = None
    validate: Callable[[], tuple[float, float]] | None = None
    val_every: int = 0


def split_parts(count: int, parts: int) -> list[range]:
    """0 .. count-1 in at most `parts` runs, as equal as can be; the first ones are the longer."""
    parts = min(parts, count)
    edges = [-(-number * count // parts) for number in range(parts + 1)]
    return [range(first, last) for first, last in pairwise(edges)]
