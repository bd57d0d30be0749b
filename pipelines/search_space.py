"""What a sweep searches: a range or some values of each setting."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .errors import PipelineError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = float | int | bool | str


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One setting: all numbers from low to high (whole ones; evenly in the logarithm), or the values of `choices`."""

    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False
    choices: tuple[Value, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"choices": list(self.choices)} if self.choices else asdict(self) | {"choices": []}

    def distribution(self) -> "BaseDistribution":
        """As Optuna has it."""
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(self.choices)
        if self.whole:
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that may be swept. flag: its option; usual: searched unless told otherwise; above: its values are
    greater than 0 (else at least 0); whole: they are whole numbers; log: a range is even in the logarithm."""

    flag: str
    usual: str
    above: bool = True
    whole: bool = False
    log: bool = True


# Settings by keyword; lr is of `train`, the others are MASTAF's.
SETTINGS: dict[str, Setting] = {
    "tau": Setting(flag="--tau", usual="0.005:0.5"),
    "bottleneck": Setting(flag="--bottleneck", usual="2:32", whole=True),
    "global_weight": Setting(flag="--lambda", usual="0:4", above=False, log=False),
    "lr": Setting(flag="--lr", usual="0.001:0.3"),
}
ADAPTERS: dict[str, tuple[Value, ...]] = {"off": (False,), "on": (True,), "both": (False, True)}


def parse_dimension(setting: Setting, text: str) -> Dimension:
    """`LOW:HIGH`, `A,B,C` or one value. Raises PipelineError."""
    number = int if setting.whole else float
    try:
        values = [number(part) for part in text.replace(":", ",").split(",")]
    except ValueError:
        values = []
    ranged = ":" in text
    least = "above 0" if setting.above else "of at least 0"
    ok = all(math.isfinite(v) and (v > 0 if setting.above else v >= 0) for v in values)
    if not values or not ok or (ranged and ("," in text or len(values) != 2 or values[0] >= values[1])):
        kind = "whole numbers" if setting.whole else "numbers"
        raise PipelineError(f"{setting.flag} ({text}) must be LOW:HIGH or A,B,... of {kind} {least}")
    if ranged:
        return Dimension(low=values[0], high=values[1], whole=setting.whole, log=setting.log)
    if len(set(values)) < len(values):
        raise PipelineError(f"{setting.flag} ({text}) names a value twice; leave one out")
    return Dimension(choices=tuple(values))


def search_space(
    given: Mapping[str, str | None], *, adapter: str, stores: tuple[str, ...], known: tuple[str, ...]
) -> dict[str, Dimension]:
    """The dimensions of a sweep. given: texts by keyword; known: keywords of the method, so that another method's are
    left out unless they were given; stores: one name a store."""
    space: dict[str, Dimension] = {}
    for name, setting in SETTINGS.items():
        text = given.get(name)
        if name in ("lr", *known) or text is not None:
            space[name] = parse_dimension(setting, text or setting.usual)
    space["adapter"] = Dimension(choices=ADAPTERS[adapter])
    space["features"] = Dimension(choices=stores)
    return space
