"""A long video as overlapping windows of time, one clip each, decoded once from front to back.

m = 4 frames a window, stride half a window: frames at a constant rate, (m - 1) / window of them a second

    time       0    1    2    3    4    5    6    7    8
    window 0   x----x----x----x                                 from frame 0
    window 1             x----x----x----x                       from frame hop = 2
    window 2                       x----x----x----x
    the rest                            x----x----x----x        a last one that ends with the video

Only the frames of one window are in memory, whatever the video's length.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import ExtractError, VideoError
from .decode import require_content
from .ffmpeg import UnreadableError, command_line, stream_ffmpeg
from .ffmpeg_log import last_error
from .pixels import PixelRule, raw_frames
from .video_file import MAX_FRAMES, open_video

SHORTEST_S, LONGEST_S = 0.04, 3600.0  # of a window or a stride


@dataclass(frozen=True)
class Window:
    """A stretch of a video. start_s, end_s: its first and last frame's time in seconds; pixels: uint8 RGB [frames,
    size, size, 3]."""

    start_s: float
    end_s: float
    pixels: np.ndarray


@dataclass(frozen=True)
class Sliding:
    """How windows of `frames` frames follow each other. rate: frames a second; hop: frames from one to the next."""

    frames: int
    rate: Fraction
    hop: int

    @property
    def length_s(self) -> float:
        """Of a window."""
        return float(max(self.frames - 1, 1) / self.rate)


def sliding(frames: int, *, window_s: float, stride_s: float | None) -> Sliding:
    """Windows of `window_s` seconds, `stride_s` (half a window, if None) apart as nearly as whole frames allow."""
    for name, value in (("window", window_s), ("stride", stride_s)):
        if value is not None and not SHORTEST_S <= value <= LONGEST_S:
            raise ExtractError(f"{name} ({value}) must be from {SHORTEST_S} to {LONGEST_S:.0f} seconds")
    rate = Fraction(max(frames - 1, 1)) / Fraction(window_s).limit_denominator(1000)
    stride = window_s / 2 if stride_s is None else stride_s
    return Sliding(frames, rate, max(1, round(stride * rate)))


class Windows:
    """The windows of one video, in order. note: once they are through, ffmpeg's last complaint, or ''.

    patience_s: how long decoding may stand still. None come from a video that is shorter than one. Raises VideoError.
    """

    def __init__(self, path: Path, how: Sliding, rule: PixelRule, *, patience_s: float) -> None:
        self._path, self._how, self._rule, self._patience_s = path, how, rule, patience_s
        self.note = ""

    def __iter__(self) -> Iterator[Window]:
        how, recent = self._how, deque[np.ndarray](maxlen=self._how.frames)
        count = given = 0  # frames so far, and those up to the last window's end
        for frame in self._frames():
            recent.append(frame)
            count += 1
            if count >= how.frames and (count - how.frames) % how.hop == 0:
                given = count
                yield self._window(recent, count)
        if count >= MAX_FRAMES:
            raise VideoError(f"is longer than {MAX_FRAMES} frames at this window; cut it, or give a longer --window")
        if given < count and count >= how.frames:
            yield self._window(recent, count)

    def _window(self, recent: deque[np.ndarray], count: int) -> Window:
        first = count - self._how.frames
        start = first / self._how.rate
        return Window(float(start), float(start) + self._how.length_s, np.stack(recent))  # [frames, h, w, 3]

    def _frames(self) -> Iterator[np.ndarray]:
        """uint8 RGB [size, size, 3] at the constant rate."""
        size, rate = self._rule.size, self._how.rate
        try:
            require_content(self._path.stat())
        except OSError as error:
            raise VideoError(f"cannot be opened: {error.strerror}") from error
        stream = open_video()["V:0"].filter("fps", f"{rate.numerator}/{rate.denominator}", start_time=0)
        command = command_line(raw_frames(stream, self._rule, at_most=MAX_FRAMES), self._path)
        log, rest, each = bytearray(), bytearray(), size * size * 3
        try:
            for piece in stream_ffmpeg(command, patience_s=self._patience_s, log=log):
                rest += piece
                while len(rest) >= each:
                    yield np.frombuffer(bytes(rest[:each]), np.uint8).reshape(size, size, 3)  # [size, size, 3]
                    del rest[:each]
        except UnreadableError as error:
            raise VideoError(f"not a video that ffmpeg can read: {error}") from error
        self.note = last_error(log.decode("utf-8", "replace"))
