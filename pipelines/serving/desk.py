"""What the page does, without the page: clips of visitors in, classes, answers and attention out.

One network serves everybody, one clip at a time: hub networks are read by hooks, which two passes at once would mix up.
"""

import contextlib
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.text import shown
from ...extract.decoding.decode import TIMEOUT_S
from ...extract.errors import VideoError
from ...fewshot.errors import FailedError
from ..errors import PipelineError
from ..explaining.attention import no_maps
from ..explaining.explanation import Explanation, Seen
from ..explaining.of_clips import explain_query, see, with_head
from ..own_videos.answering import Answering
from ..own_videos.calibrating import calibrate_classes
from ..own_videos.classifier import REJECT_RATE
from ..own_videos.enrolment import Enrolment, Example, require_contents, require_name
from ..own_videos.making import Settings, begin
from ..own_videos.support import content_digest

MOST_NAME = 200  # letters


@dataclass(frozen=True, kw_only=True)
class Limits:
    """classes: of one visitor; clips: of one class; all_clips: of all visitors; clip_mb: megabytes of one upload;
    timeout_s: for reading one clip, and for uploading it."""

    classes: int = 20
    clips: int = 20
    all_clips: int = 2000
    clip_mb: int = 200
    timeout_s: float = TIMEOUT_S

    @property
    def waiting_bytes(self) -> int:
        """Of all uploads that wait to be looked at."""
        return 10 * self.clip_mb * 10**6


@dataclass(frozen=True, eq=False)
class Clip:
    """An example. cube: float16 [c, t, h, w]; seen: its frames, kept of a class's first clip alone, which is shown."""

    example: Example
    cube: np.ndarray
    seen: Seen | None


@dataclass(eq=False)
class Visit:
    """What one visitor has enrolled."""

    clips: list[Clip] = field(default_factory=list)
    answering: Answering | None = None  # for these clips, once it was needed

    def __deepcopy__(self, memo: Any) -> "Visit":
        """A new visitor begins with nothing: page libraries copy what a page begins with."""
        return Visit()

    @property
    def classes(self) -> dict[str, int]:
        """Name -> clips."""
        found: dict[str, int] = {}
        for clip in self.clips:
            found[clip.example.class_name] = found.get(clip.example.class_name, 0) + 1
        return found


class Desk:
    """Serves visits. device, limits: for all of them; settings: of `making.Settings`."""

    def __init__(self, *, device: str, limits: Limits, **settings: Any) -> None:
        self.limits, self._device = limits, device
        self._begun = begin(Settings(**with_head(settings)), device=device)
        self._alone = threading.Lock()  # over the network, and over what visits hold
        self._visits: weakref.WeakSet[Visit] = weakref.WeakSet()
        self._require_maps()

    def add(self, visit: Visit, name: str, uploads: Sequence[Path]) -> list[str]:
        """Enrol uploads as examples of a class; they are deleted. Returns why some were not taken."""
        problems: list[str] = []
        try:
            with self._alone:
                self._require_room(visit, name.strip(), len(uploads))
            for upload in uploads:
                try:
                    self._add(visit, name.strip(), upload)
                except (PipelineError, FailedError) as error:
                    problems.append(str(error))
        except PipelineError as error:
            problems.append(str(error))
        finally:
            for upload in uploads:
                forget(upload)
        return problems

    def remove(self, visit: Visit, name: str) -> None:
        """Forget a class."""
        with self._alone:
            self._change(visit, [clip for clip in visit.clips if clip.example.class_name != name])

    def ask(self, visit: Visit, upload: Path) -> Explanation:
        """What the visit's classes say of an upload, which is deleted. PipelineError where they say nothing."""
        try:
            if len(visit.classes) < 2:
                raise PipelineError("add clips of two classes or more first")
            seen = self._see(upload)
            with self._alone:
                answering = self._answering(visit)
                return explain_query(answering, seen, _supports(visit, answering.enrolment))
        finally:
            forget(upload)

    def _add(self, visit: Visit, name: str, upload: Path) -> None:
        example = Example(class_name=name, name=f"{name}/{upload.name}", sha256=_digest(upload))
        require_contents([*(clip.example for clip in visit.clips), example])
        seen = self._see(upload)
        with self._alone:
            cube, reason = self._begun.network.cube(seen.frames)
            if reason:
                raise PipelineError(f"{upload.name}: {reason}")
            self._require_room(visit, name, 1)  # another request may have been first
            require_contents([*(clip.example for clip in visit.clips), example])
            self._visits.add(visit)
            kept = None if name in visit.classes else seen
            self._change(visit, [*visit.clips, Clip(example, cube, kept)])

    def _see(self, upload: Path) -> Seen:
        return see(upload, self._begun.spec, name=upload.name, timeout_s=self.limits.timeout_s)

    def _answering(self, visit: Visit) -> Answering:
        """What answers for a visit's clips, calibrated as far as they allow."""
        if visit.answering is None:
            clips = sorted(visit.clips, key=lambda clip: clip.example.class_name)
            answering = self._answer_for([clip.example for clip in clips], np.stack([clip.cube for clip in clips]))
            enrolment = answering.enrolment
            found = calibrate_classes(answering.scorer, enrolment, store=None, reject_rate=REJECT_RATE)
            answering.enrolment = replace(enrolment, calibration=found)
            visit.answering = answering
        return visit.answering

    def _answer_for(self, examples: Sequence[Example], cubes: np.ndarray) -> Answering:
        """What answers for examples with cubes float16 [n, c, t, h, w]."""
        here = self._begun
        how = {"weights": None, "device": self._device, "workers": 1, "timeout_s": self.limits.timeout_s}
        return Answering(here.enrolment(examples, cubes), network=here.network, **how)

    def _require_maps(self) -> None:
        """PipelineError for a head that has nothing to show: before anybody drops a clip."""
        examples = [Example(class_name=name, name=name, sha256=name) for name in ("a", "b")]
        blank = np.zeros((2, *self._begun.spec.cube_shape), np.float16)  # [2, c, t, h, w]
        scorer = self._answer_for(examples, blank).scorer
        if not scorer.attention(blank[0]):
            raise no_maps(self._begun.head.method, scorer.method)

    def _change(self, visit: Visit, clips: list[Clip]) -> None:
        visit.clips, visit.answering = clips, None

    def _require_room(self, visit: Visit, name: str, more: int) -> None:
        require_name(name)
        if len(name) > MOST_NAME:
            raise PipelineError(f"the class name must have at most {MOST_NAME} letters; give a shorter one")
        if not more:
            raise PipelineError("drop a clip or more of the class first")
        classes, limits = visit.classes, self.limits
        if name not in classes and len(classes) >= limits.classes:
            raise PipelineError(f"there are {limits.classes} classes, the most that are kept; remove one first")
        if classes.get(name, 0) + more > limits.clips:
            raise PipelineError(f"class '{shown(name)}' may have {limits.clips} clips at most; drop fewer")
        if sum(len(other.clips) for other in self._visits) + more > limits.all_clips:
            raise PipelineError("too many clips are enrolled by all visitors together; try again later")


def forget(upload: Path) -> None:
    """Delete an upload, and the folder that was made for it alone."""
    with contextlib.suppress(OSError):
        upload.unlink()
    with contextlib.suppress(OSError):
        upload.parent.rmdir()  # not where another upload is in it


def _digest(upload: Path) -> str:
    try:
        return content_digest(upload)
    except VideoError as error:
        raise PipelineError(f"{upload.name}: {error}") from error


def _supports(visit: Visit, enrolment: Enrolment) -> list[list[Seen]]:
    """The first clip of each class."""
    first = {clip.example.class_name: clip.seen for clip in visit.clips if clip.seen is not None}
    return [[first[name]] for name in enrolment.classes]
