"""What is enrolled: classes, the cubes of their examples, and all that a new clip must be treated by as they were."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...cache.checks import fit_fields
from ...cache.console import unknown_name
from ...cache.spec import FeatureSpec
from ...cache.text import shown
from ...fewshot.statistics.temperature import Calibration
from ..errors import PipelineError

if TYPE_CHECKING:
    from .support import Support

_LARGEST = 1 << 16  # a file from a stranger must not make a head that fills the memory


@dataclass(frozen=True, kw_only=True)
class Network:
    """How the backbone was loaded, beside what the recipe says.

    weights: as they were asked for, '' for the backbone's own; device, versions, folded: where its fast form was found
    to be right (see `prepare`), so that the same place need not try it again.
    """

    weights: str
    device: str
    versions: dict[str, str]
    folded: bool

    def __post_init__(self) -> None:
        fit_fields(self)


@dataclass(frozen=True, kw_only=True)
class HeadFacts:
    """Which head scores. method, keywords, n_train_classes: make it again; run: the folder of its training, '' for a
    head without; weights_sha256: of the weights file there; selected_on: of that run."""

    method: str
    keywords: dict[str, Any]
    n_train_classes: int
    run: str = ""
    weights_sha256: str = ""
    selected_on: str = "none"

    def __post_init__(self) -> None:
        fit_fields(self)
        sizes = [self.n_train_classes, *(n for value in self.keywords.values() for n in _numbers(value))]
        if any(not abs(size) <= _LARGEST for size in sizes):
            raise PipelineError(f"numbers of the head ({max(sizes, key=abs)}) must be at most {_LARGEST}")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One clip of the support set. name: CLASS/FILE as it was found; sha256: of its content; note: what was wrong
    with it although it gave its frames."""

    class_name: str
    name: str
    sha256: str
    note: str = ""

    def __post_init__(self) -> None:
        fit_fields(self)
        require_name(self.class_name)


def _numbers(value: Any) -> list[float]:
    """The numbers among a keyword's values."""
    values = value if isinstance(value, list | tuple) else [value]
    return [n for n in values if isinstance(n, int | float)]


def require_name(name: str) -> None:
    """PipelineError unless a class may be called so: any text that is not empty or blank."""
    if not name.strip():
        raise PipelineError(f"class name ('{shown(name)}') must not be blank; give it a name")


@dataclass(frozen=True, eq=False)
class Enrolment:
    """spec: the recipe of the cubes; head_tensors: the head's parameters; examples: one for each of the cubes, float16
    [n, c, t, h, w]; calibration: None where scores are not probabilities.

    PipelineError when one content stands under two classes; the same content twice in one class is refused, too.
    """

    spec: FeatureSpec
    network: Network
    head: HeadFacts
    head_tensors: Mapping[str, np.ndarray]
    examples: tuple[Example, ...]
    cubes: np.ndarray
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if len(self.examples) != len(self.cubes) or self.cubes.shape[1:] != self.spec.cube_shape:
            raise PipelineError(
                f"cubes {self.cubes.shape} must be one of {self.spec.cube_shape} for each of {len(self.examples)} clips"
            )
        require_contents(self.examples)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order in which they were enrolled: a class is the way of its place here."""
        return tuple(dict.fromkeys(example.class_name for example in self.examples))

    @cached_property
    def ways(self) -> list[int]:
        """The way of each example."""
        places = {name: way for way, name in enumerate(self.classes)}
        return [places[example.class_name] for example in self.examples]

    @cached_property
    def counts(self) -> dict[str, int]:
        """Examples of each class."""
        return {name: self.ways.count(way) for way, name in enumerate(self.classes)}

    def new_among(self, support: "Support") -> "Support":
        """The clips that are not enrolled yet, with a note on those that are. PipelineError where one is in another
        class, before anything is computed."""
        old = {(example.class_name, example.sha256) for example in self.examples}
        again = [clip for clip in support.clips if (clip.example.class_name, clip.example.sha256) in old]
        new = [clip for clip in support.clips if clip not in again]
        require_contents((*self.examples, *(clip.example for clip in new)))
        notes = [f"'{shown(clip.example.name)}' is enrolled already" for clip in again]
        return replace(support, clips=new, notes=[*support.notes, *notes])

    def added(self, examples: Sequence[Example], cubes: np.ndarray) -> Self:
        """With more examples, of new classes or of those that are there. Not calibrated."""
        together = np.concatenate([self.cubes, cubes])  # [n, c, t, h, w]
        return self._changed(examples=(*self.examples, *examples), cubes=together)

    def removed(self, name: str) -> Self:
        """Without a class. Not calibrated."""
        self._require_class(name)
        kept = [n for n, example in enumerate(self.examples) if example.class_name != name]
        if not kept:
            raise PipelineError(f"'{shown(name)}' is the only class, and cannot be removed; enrol anew")
        return self._changed(examples=tuple(self.examples[n] for n in kept), cubes=self.cubes[kept])

    def renamed(self, old: str, new: str) -> Self:
        """With another name for a class. Still calibrated."""
        self._require_class(old)
        require_name(new)
        if new in self.classes and new != old:
            raise PipelineError(f"there is a class '{shown(new)}' already; remove it first, or choose another name")
        named = (replace(e, class_name=new) if e.class_name == old else e for e in self.examples)
        return replace(self, examples=tuple(named))

    def _changed(self, **values: Any) -> Self:
        return replace(self, calibration=None, **values)

    def _require_class(self, name: str) -> None:
        if name not in self.classes:
            raise PipelineError(unknown_name("class", shown(name), map(shown, self.classes)))


def require_two_classes(names: Collection[str]) -> None:
    """PipelineError for fewer: an answer chooses between classes."""
    if len(names) < 2:
        raise PipelineError(f"classes ({len(names)}) must be two or more; add a folder of clips of another class")


def require_contents(examples: Sequence[Example]) -> None:
    """PipelineError when two examples have the same content."""
    seen: dict[str, Example] = {}
    for example in examples:
        other = seen.setdefault(example.sha256, example)
        if other.class_name != example.class_name:
            raise PipelineError(
                f"'{shown(other.name)}' and '{shown(example.name)}' have the same content in two classes, "
                f"'{shown(other.class_name)}' and '{shown(example.class_name)}'; a clip can be an example of one"
            )
        if other is not example:
            raise PipelineError(
                f"'{shown(other.name)}' and '{shown(example.name)}' have the same content; leave one of them out"
            )
