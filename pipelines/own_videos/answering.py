"""An enrolment at work: videos in, answers out, one after another while decoders run ahead."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...extract.decoding.pixels import pixel_rule_of
from ...extract.decoding.windows import Sliding, Windows, sliding
from ...extract.errors import VideoError
from ..errors import PipelineError
from .answer import Answer, Scored, scored
from .enrolment import Enrolment
from .live import Asked, LiveNetwork, decode_ahead, load_head, load_network
from .segments import segments_of

if TYPE_CHECKING:
    from ...fewshot.support_set import SupportSet


class Answering:
    """Answers to videos. weights: of the backbone, None where they were at enrolment; device, workers, timeout_s: see
    `FewShotClassifier`; network: where it is loaded already."""

    def __init__(
        self,
        enrolment: Enrolment,
        *,
        weights: str | None,
        device: str,
        workers: int | None,
        timeout_s: float,
        network: LiveNetwork | None = None,
    ) -> None:
        self.enrolment = enrolment
        self._weights, self._device, self._workers, self._timeout_s = weights, device, workers, timeout_s
        self.loaded = network

    @property
    def network(self) -> LiveNetwork:
        """The backbone, loaded when it is first needed."""
        if self.loaded is None:
            self.loaded = load_network(self.enrolment, weights=self._weights, device=self._device)
        return self.loaded

    @cached_property
    def scorer(self) -> "SupportSet":
        """The head with its support set."""
        from ...extract.machines.devices import resolve_device
        from ...fewshot.support_set import SupportSet

        here = self.enrolment
        return SupportSet(load_head(here), here.cubes, here.ways, device=resolve_device(self._device))

    def scored(self, cube: np.ndarray) -> Scored:
        """What the head says of a cube float16 [c, t, h, w]."""
        return scored(self.scorer.score(cube[None])[0], self.enrolment.calibration)

    def cubes(self, paths: Sequence[Path]) -> Iterator[tuple[Path, np.ndarray | None, str]]:
        """(path, cube float16 [c, t, h, w], note), or (path, None, why there is none), for each video in turn."""
        if not paths:
            return
        how = {"workers": self._workers, "timeout_s": self._timeout_s}
        ahead = decode_ahead([Asked(path) for path in paths], self.enrolment.spec, **how)
        try:
            network = self.network  # loaded while decoders work
            for path, decoded in zip(paths, ahead, strict=True):
                if decoded.clip is None:
                    yield path, None, decoded.reason
                    continue
                cube, reason = network.cube(decoded.clip.pixels)
                yield path, None if reason else cube, reason or decoded.clip.note
        finally:
            ahead.close()

    def clips(self, paths: Sequence[Path]) -> Iterator[Answer]:
        """One answer to each video."""
        for path, cube, words in self.cubes(paths):
            if cube is None:
                yield Answer(path=str(path), error=words)
            else:
                yield self.scored(cube).answer(path, self.enrolment.classes, note=words)

    def segments(self, paths: Sequence[Path], *, window_s: float, stride_s: float | None) -> Iterator[Answer]:
        """The segments of each video, from windows of so many seconds, so many apart (half a window, if None)."""
        spec = self.enrolment.spec
        how = sliding(spec.frames, window_s=window_s, stride_s=stride_s)
        if spec.sampling != "even":
            raise PipelineError(f"windows need the sampling rule 'even', but these classes have '{spec.sampling}'")
        return (answer for path in paths for answer in self._segments(path, how))

    def _segments(self, path: Path, how: Sliding) -> Iterator[Answer]:
        note = "a folder of frames has no times: answered as one clip"
        if not path.is_dir():
            note, found = "shorter than a window: answered as one clip", False
            windows = Windows(path, how, pixel_rule_of(self.enrolment.spec), patience_s=self._timeout_s)
            for answer in segments_of(path, windows, self._score_clip, self.enrolment.classes):
                found = True
                yield answer
            if found:
                return
        for answer in self.clips([path]):
            yield answer if answer.error else replace(answer, note="; ".join(filter(None, (note, answer.note))))

    def _score_clip(self, pixels: np.ndarray) -> Scored:
        """What the head says of a clip uint8 [frames, size, size, 3]."""
        cube, reason = self.network.cube(pixels)
        if reason:
            raise VideoError(reason)
        return self.scored(cube)
