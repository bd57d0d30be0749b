"""`FewShotClassifier`: classes from a few clips each, and new clips classified.

from mastaf.pipelines.own_videos.classifier import FewShotClassifier

classifier = FewShotClassifier.enrol("my_classes/")          # a folder for each class, a clip or more in each
for answer in classifier.classify("clip1.mp4", "folder/"):
    print(answer.path, answer.label, answer.probability)
classifier.save("my.classes")                                # FewShotClassifier.load("my.classes") another day
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...extract.decoding.decode import TIMEOUT_S
from ..errors import PipelineError
from .answer import Answer
from .answering import Answering
from .calibrating import calibrate_classes
from .classes_file import read_classes, write_classes
from .enrolment import Enrolment, require_two_classes
from .making import Settings, begin, make_cubes
from .support import Given, Support, find_support, queries_in

Clip = Path | str
REJECT_RATE = 0.05


class FewShotClassifier:
    """Classes of one's own, each known from one clip or a few.

    backbone, weights, revision, layer, time, frames, size, resize, precision, checkpoint, method, method_keywords: see
    `making.Settings`; calibrate: a store of cubes of the same recipe, from which to learn what scores mean where a
    class has one clip alone; reject_rate: share of right answers that may be rejected (0.05); device: `auto`, `cpu` or
    `cuda:N`; workers: decoding threads; timeout_s: for decoding one clip; follow_links: see mastaf-extract; progress:
    show it.

    classes_: the names, in the order of `predict_proba`; failures_: (clip, reason) of examples that could not be used;
    notes_: lines on what was left out.
    """

    def __init__(
        self,
        *,
        calibrate: Clip | None = None,
        reject_rate: float | None = None,
        device: str = "auto",
        workers: int | None = None,
        timeout_s: float = TIMEOUT_S,
        follow_links: bool = False,
        progress: bool = False,
        **settings: Any,
    ) -> None:
        self._settings, self._weights = Settings(**settings), settings.get("weights")
        self.calibrate, self.reject_rate, self.device = calibrate, reject_rate, device
        self.workers, self.timeout_s = workers, timeout_s
        self.follow_links, self.progress = follow_links, progress
        self.failures_: list[tuple[str, str]] = []
        self.notes_: list[str] = []
        self._answering: Answering | None = None

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
    def load(cls, path: Clip, *, weights: str | None = None, **settings: Any) -> Self:
        """The classifier of a file that `save` wrote. weights: of the backbone, where they have moved; settings:
        device, workers, timeout_s, follow_links, progress, and for changes calibrate and reject_rate."""
        made = cls(**settings)
        if made._settings != Settings():
            raise PipelineError(f"{', '.join(settings)}: a file of classes fixes network and head; enrol anew")
        made._weights = weights
        made._answer_for(read_classes(Path(path)))
        return made

    def save(self, path: Clip) -> None:
        """Write everything into one file, whole or not at all; it holds no code."""
        write_classes(Path(path), self.enrolment)

    @property
    def answering(self) -> Answering:
        """What answers: its `network` makes cubes of clips, its `scorer` scores them."""
        if self._answering is None:
            raise PipelineError("nothing is enrolled yet; call fit or enrol first, or load a file")
        return self._answering

    @property
    def enrolment(self) -> Enrolment:
        """What is enrolled."""
        return self.answering.enrolment

    @property
    def classes_(self) -> np.ndarray:
        """Names of the classes, [way]."""
        return np.array(self.enrolment.classes)

    @property
    def calibrated(self) -> bool:
        """Whether scores are turned into probabilities."""
        return self.enrolment.calibration is not None

    def classify(self, *clips: Clip, window_s: float | None = None, stride_s: float | None = None) -> list[Answer]:
        """An answer for each clip; of a folder, for each video in it. What cannot be read has an `error`.

        window_s: seconds; then a video is answered by segments, from windows of this length every `stride_s` (half a
        window, if None).
        """
        paths = [path for clip in clips for path in queries_in(Path(clip))]
        return list(self.answers(paths, window_s=window_s, stride_s=stride_s))

    def answers(
        self, paths: Sequence[Path], *, window_s: float | None = None, stride_s: float | None = None
    ) -> Iterator[Answer]:
        """The answers to videos, each as soon as it is there; see `classify`."""
        if window_s is not None:
            return self.answering.segments(paths, window_s=window_s, stride_s=stride_s)
        if stride_s is not None:
            raise PipelineError(f"stride ({stride_s}) needs a window; give its seconds, too")
        return self.answering.clips(paths)

    def fit(self, X: Sequence[Clip], y: Sequence[str]) -> Self:
        """Enrol clips by their labels."""
        if len(X) != len(y):
            raise PipelineError(f"X ({len(X)} clips) and y ({len(y)} labels) must be as many")
        by_class: dict[str, list[Clip]] = {}
        for clip, label in zip(X, y, strict=True):
            by_class.setdefault(str(label), []).append(clip)
        classes = {name: by_class[name] for name in sorted(by_class)}
        self._enrol(find_support(classes, follow_links=self.follow_links), None)
        return self

    def decision_function(self, X: Sequence[Clip]) -> np.ndarray:
        """The head's scores float32 [n, way]. PipelineError where a clip cannot be read."""
        cubes = []
        for path, cube, words in self.answering.cubes([Path(clip) for clip in X]):
            if cube is None:
                raise PipelineError(f"{path}: {words}; leave it out, or use classify, which goes on")
            cubes.append(cube)
        return self.answering.scorer.score(np.stack(cubes)) if cubes else np.zeros((0, len(self.classes_)), np.float32)

    def predict(self, X: Sequence[Clip]) -> np.ndarray:
        """The nearest class of each clip [n]; rejecting is `classify`'s."""
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
        return self.change(add=support)

    def remove(self, name: str) -> Self:
        """Forget a class."""
        return self.change(remove=[name])

    def rename(self, old: str, new: str) -> Self:
        """Call a class otherwise."""
        return self.change(rename=[(old, new)])

    def change(
        self, *, remove: Sequence[str] = (), rename: Sequence[tuple[str, str]] = (), add: Given | None = None
    ) -> Self:
        """All three, in this order, and only then learn what scores mean."""
        here, more = self.enrolment, None
        for name in remove:
            here = here.removed(name)
        for old, new in rename:
            here = here.renamed(old, new)
        if add is not None:
            more = here.new_among(find_support(add, follow_links=self.follow_links))
            examples, cubes = make_cubes(more, self.answering.network, here.spec, known={}, **self._decoding)
            here = here.added(examples, cubes) if examples else here
        self._take(here, more)
        return self

    @property
    def _decoding(self) -> dict[str, Any]:
        return {"workers": self.workers, "timeout_s": self.timeout_s, "progress": self.progress}

    def _enrol(self, support: Support, reuse: "FewShotClassifier | None") -> None:
        require_two_classes({clip.example.class_name for clip in support.clips})
        begun = begin(self._settings, device=self.device)
        known: Mapping[str, np.ndarray] = {}
        if reuse is not None and reuse.enrolment.spec.recipe == begun.spec.recipe:
            known = {e.sha256: cube for e, cube in zip(reuse.enrolment.examples, reuse.enrolment.cubes, strict=True)}
        examples, cubes = make_cubes(support, begun.network, begun.spec, known=known, **self._decoding)
        enrolment = begun.enrolment(examples, cubes)
        self._answer_for(enrolment, begun.network)
        self._take(enrolment, support)

    def _answer_for(self, enrolment: Enrolment, network: Any = None) -> None:
        how = {"device": self.device, "workers": self.workers, "timeout_s": self.timeout_s}
        self._answering = Answering(enrolment, weights=self._weights, network=network, **how)

    def _take(self, enrolment: Enrolment, support: Support | None = None) -> None:
        """Answer for what is enrolled now, and learn what its scores mean."""
        require_two_classes(enrolment.classes)
        before = self.enrolment.calibration
        rate = self.reject_rate if self.reject_rate is not None else before.reject_rate if before else REJECT_RATE
        self._answer_for(enrolment, self.answering.loaded)
        otherwise = self.calibrate is not None or (before is not None and rate != before.reject_rate)
        if enrolment.calibration is None or otherwise:
            found = calibrate_classes(self.answering.scorer, enrolment, store=self.calibrate, reject_rate=rate)
            self.answering.enrolment = replace(enrolment, calibration=found)
        if support is not None:
            self.failures_, self.notes_ = support.failures, support.notes
