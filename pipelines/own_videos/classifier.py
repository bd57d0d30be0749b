"""`FewShotClassifier`: classes from a few clips each, and new clips classified.

from mastaf.pipelines.own_videos.classifier import FewShotClassifier

classifier = FewShotClassifier.enrol("my_classes/")          # a folder for each class, a clip or more in each
for answer in classifier.classify("clip1.mp4", "folder/"):
    print(answer.path, answer.label, answer.probability)
classifier.save("my.classes")                                # FewShotClassifier.load("my.classes") another day
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...cache.text import shown
from ...extract.decoding.decode import TIMEOUT_S
from ..errors import PipelineError
from .answer import Answer, answer_of
from .classes_file import read_classes, write_classes
from .enrolment import Enrolment
from .live import Asked, LiveNetwork, decode_ahead, load_head, load_network
from .making import Settings, begin, make_cubes
from .support import Given, Support, find_support, queries_in

if TYPE_CHECKING:
    from ...fewshot.support_set import SupportSet

Clip = Path | str


class FewShotClassifier:
    """Classes of one's own, each known from one clip or a few.

    backbone, weights, revision, layer, time, frames, size, resize, precision, checkpoint, method, method_keywords: see
    `making.Settings`; calibrate: a store of cubes of the same recipe, from which to learn what scores mean where a
    class has one clip alone; reject_rate: share of right answers that may be rejected; device: `auto`, `cpu` or
    `cuda:N`; workers: decoding threads; timeout_s: for decoding one clip; follow_links: see mastaf-extract; advance:
    called with the number of clips that were just enrolled.

    classes_: the names, in the order of `predict_proba`; failures_: (clip, reason) of examples that could not be used;
    notes_: lines on what was left out.
    """

    def __init__(
        self,
        *,
        calibrate: Path | str | None = None,
        reject_rate: float = 0.05,
        device: str = "auto",
        workers: int | None = None,
        timeout_s: float = TIMEOUT_S,
        follow_links: bool = False,
        advance: Callable[[int], None] | None = None,
        **settings: Any,
    ) -> None:
        self._settings = Settings(**settings)
        self.calibrate, self.reject_rate, self.device = calibrate, reject_rate, device
        self.workers, self.timeout_s, self.follow_links, self.advance = workers, timeout_s, follow_links, advance
        self.failures_: list[tuple[str, str]] = []
        self.notes_: list[str] = []
        self._enrolment: Enrolment | None = None
        self._weights: str | None = None

    @classmethod
    def enrol(cls, support: Given, *, reuse: "FewShotClassifier | None" = None, **settings: Any) -> Self:
        """A classifier of the classes in a folder CLASS/VIDEO, or in a mapping from class to paths.

        reuse: a classifier whose cubes are taken for clips that it has, where it is of the same recipe; settings: as
        of the constructor.
        """
        made = cls(**settings)
        made._enrol(find_support(support, follow_links=made.follow_links), reuse)
        return made

    @classmethod
    def load(cls, path: Path | str, *, weights: str | None = None, **settings: Any) -> Self:
        """The classifier of a file that `save` wrote. weights: of the backbone, where they have moved; settings:
        device, workers, timeout_s, calibrate, reject_rate, follow_links."""
        made = cls(**settings)
        made._enrolment, made._weights = read_classes(Path(path)), weights
        return made

    def save(self, path: Path | str) -> None:
        """Write everything into one file, whole or not at all; it holds no code."""
        write_classes(Path(path), self.enrolment)

    @property
    def enrolment(self) -> Enrolment:
        """What is enrolled."""
        if self._enrolment is None:
            raise PipelineError("nothing is enrolled yet; call fit or enrol first, or load a file")
        return self._enrolment

    @property
    def classes_(self) -> np.ndarray:
        """Names of the classes, [way]."""
        return np.array(self.enrolment.classes)

    @property
    def calibrated(self) -> bool:
        """Whether scores are turned into probabilities."""
        return self.enrolment.calibration is not None

    def classify(self, *clips: Clip) -> list[Answer]:
        """An answer for each clip; of a folder, for each video in it. What cannot be read has an `error`."""
        return list(self.answers([path for clip in clips for path in queries_in(Path(clip))]))

    def answers(self, paths: Sequence[Path]) -> Iterator[Answer]:
        """The answers to videos, each as soon as it is there."""
        for path, cube, words in self._cubes(paths):
            if cube is None:
                yield Answer(path=str(path), error=words)
            else:
                yield self.answer(path, cube, note=words)

    def answer(self, path: Path | str, cube: np.ndarray, **more: Any) -> Answer:
        """The answer to a cube float16 [c, t, h, w]; more: further fields of it."""
        logits = self.scorer.score(cube[None])[0]  # [way]
        return answer_of(path, logits, self.enrolment.classes, self.enrolment.calibration, **more)

    def fit(self, X: Sequence[Clip], y: Sequence[str]) -> Self:
        """Enrol clips by their labels."""
        if len(X) != len(y):
            raise PipelineError(f"X ({len(X)} clips) and y ({len(y)} labels) must be as many")
        by_class: dict[str, list[Clip]] = {}
        for clip, label in zip(X, y, strict=True):
            by_class.setdefault(str(label), []).append(clip)
        self._enrol(find_support({name: by_class[name] for name in sorted(by_class)}), None)
        return self

    def decision_function(self, X: Sequence[Clip]) -> np.ndarray:
        """The head's scores float32 [n, way]. PipelineError where a clip cannot be read."""
        cubes = []
        for path, cube, words in self._cubes([Path(clip) for clip in X]):
            if cube is None:
                raise PipelineError(f"{path}: {words}; leave it out, or use classify, which goes on")
            cubes.append(cube)
        return self.scorer.score(np.stack(cubes)) if cubes else np.zeros((0, len(self.classes_)), np.float32)

    def predict(self, X: Sequence[Clip]) -> np.ndarray:
        """The nearest class of each clip [n], rejected by none: that is `classify`'s."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def predict_proba(self, X: Sequence[Clip]) -> np.ndarray:
        """Probabilities float64 [n, way]. PipelineError where nothing calibrated them: see `decision_function`."""
        calibration = self.enrolment.calibration
        if calibration is None:
            raise PipelineError(
                "the scores are not calibrated, so there are no probabilities; enrol two clips or more of each class, "
                "give calibrate=STORE, or take decision_function"
            )
        return calibration.probabilities(self.decision_function(X))

    def score(self, X: Sequence[Clip], y: Sequence[str]) -> float:
        """Share of clips whose nearest class is their label."""
        return float((self.predict(X) == np.array([str(label) for label in y])).mean())

    def add(self, support: Given) -> Self:
        """Enrol more clips, of new classes or of those that are there; the others are not computed again."""
        found, here = find_support(support, follow_links=self.follow_links), self.enrolment
        old = {(e.class_name, e.sha256) for e in here.examples}
        again = [clip for clip in found.clips if (clip.example.class_name, clip.example.sha256) in old]
        found.notes.extend(f"'{shown(clip.example.name)}' is enrolled already" for clip in again)
        clips = [clip for clip in found.clips if clip not in again]
        examples, cubes = self._make(replace(found, clips=clips), self.network, {})
        self._change(here.added(examples, cubes) if examples else here)
        return self

    def remove(self, name: str) -> Self:
        """Forget a class."""
        self._change(self.enrolment.removed(name))
        return self

    def rename(self, old: str, new: str) -> Self:
        """Call a class otherwise."""
        self._change(self.enrolment.renamed(old, new))
        return self

    @cached_property
    def network(self) -> LiveNetwork:
        """The backbone, loaded when it is first needed."""
        return load_network(self.enrolment, weights=self._weights, device=self.device)

    @cached_property
    def scorer(self) -> "SupportSet":
        """The head with its support set."""
        return self._support_set(load_head(self.enrolment))

    def _support_set(self, method: Any) -> "SupportSet":
        from ...extract.machines.devices import resolve_device
        from ...fewshot.support_set import SupportSet

        here = self.enrolment
        return SupportSet(method, here.cubes, here.ways, device=resolve_device(self.device))

    def _enrol(self, support: Support, reuse: "FewShotClassifier | None") -> None:
        names = {clip.example.class_name for clip in support.clips}
        if len(names) < 2:
            raise PipelineError(f"classes ({len(names)}) must be two or more; add a folder of clips of another class")
        begun = begin(self._settings, device=self.device)
        known = {}
        if reuse is not None and reuse.enrolment.spec.recipe == begun.spec.recipe:
            known = {e.sha256: cube for e, cube in zip(reuse.enrolment.examples, reuse.enrolment.cubes, strict=True)}
        self.__dict__["network"] = begun.network
        examples, cubes = self._make(support, begun.network, known, begun.spec)
        self._change(
            Enrolment(
                spec=begun.spec,
                network=begun.network.facts,
                head=begun.head,
                head_tensors=begun.head_tensors,
                examples=tuple(examples),
                cubes=cubes,
            )
        )

    def _make(self, support: Support, network: LiveNetwork, known: Mapping[str, np.ndarray], spec: Any = None) -> Any:
        how = {"workers": self.workers, "timeout_s": self.timeout_s, "advance": self.advance}
        examples, cubes = make_cubes(support, network, spec or self.enrolment.spec, known=known, **how)
        self.failures_, self.notes_ = support.failures, support.notes
        return examples, cubes

    def _change(self, enrolment: Enrolment) -> None:
        """Take over what is enrolled now, and learn what its scores mean."""
        from .calibrating import calibrate_classes

        self.__dict__.pop("scorer", None)
        self._enrolment = enrolment
        if enrolment.calibration is None:
            found = calibrate_classes(self.scorer, enrolment, store=self.calibrate, reject_rate=self.reject_rate)
            self._enrolment = replace(enrolment, calibration=found)

    def _cubes(self, paths: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | None, str]]:
        """(path, cube float16 [c, t, h, w], note), or (path, None, why there is none), for each video in turn."""
        spec = self.enrolment.spec
        # Decoders start now; the network is loaded while they work.
        ahead = decode_ahead([Asked(path) for path in paths], spec, workers=self.workers, timeout_s=self.timeout_s)
        try:
            network = self.network if paths else None
            for path, decoded in zip(paths, ahead, strict=True):
                if decoded.clip is None or network is None:
                    yield path, None, decoded.reason
                    continue
                cube, reason = network.cube(decoded.clip.pixels)
                yield path, None if reason else cube, reason or decoded.clip.note
        finally:
            ahead.close()
