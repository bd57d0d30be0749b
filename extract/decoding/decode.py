"""One video, whatever it is stored as, to the pixels of its views, decoded once."""

import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..datasets.links import Links
from ..errors import VideoError
from .fingerprint import fingerprint
from .frame_folder import decode_folder
from .pixels import PixelRule
from .video_file import decode_video
from .views import ViewCutter

TIMEOUT_S = 120.0
_READINGS = 2


@dataclass(frozen=True)
class Clip:
    """The frames of one video that a backbone sees.

    views: uint8 RGB `[views, frames, size, size, 3]`.
    note: '' or one line on what was wrong with the video although it gave its frames.
    seen: the video's `fingerprint` when it was read, '' where nobody looked.
    """

    views: np.ndarray
    note: str
    seen: str = ""

    def __post_init__(self) -> None:
        if self.views.dtype != np.uint8 or self.views.ndim != 5 or self.views.shape[-1] != 3:
            raise ValueError(f"views ({self.views.dtype} {self.views.shape}) must be uint8 [views, frames, h, w, 3]")

    @property
    def pixels(self) -> np.ndarray:
        """The first view, the only one unless more were asked for: uint8 RGB `[frames, size, size, 3]`."""
        return self.views[0]

    def __repr__(self) -> str:
        return f"Clip(views=uint8 {list(self.views.shape)}, note={self.note!r})"


def decode_clip(
    path: Path,
    *,
    frames: int,
    rule: PixelRule,
    views: Sequence[str] = ("plain",),
    sampling: str = "even",
    key: str = "",
    timeout_s: float = TIMEOUT_S,
    links: Links | None = None,
) -> Clip:
    """The `frames` frames of a video file or a folder of frames that `sampling` chooses, as `rule` wants them.

    views: names (see mastaf.cache.views), all cut from one decoding; the pixels of one do not depend on the others.
    key: the video's key in the store; seeds the rules that draw. timeout_s: seconds for all of it. links: where they
    may lead; without it the path is trusted, and a frame's link stays in its folder.
    The pixels depend on the file, the arguments and the ffmpeg binary alone. Raises VideoError with a reason of one
    line for anything that is no usable video, whatever its content tries. A file is read more than once: one that is
    replaced meanwhile is read again from the start, and gives the frames of one state of it or a VideoError.
    """
    cutter = ViewCutter(views, frames=frames, sampling=sampling, key=key)
    rule = replace(rule, crops=cutter.crops)
    deadline = time.monotonic() + timeout_s
    found: Clip | VideoError = VideoError("was changed while it was read; run again when nothing writes it")
    seen = ""
    for _ in range(_READINGS):
        seen = fingerprint(path)
        try:
            clip = _read(path, cutter, rule, deadline, links)
        except VideoError as error:
            clip = error
        if fingerprint(path) == seen:
            found = clip
            break
    if isinstance(found, Clip):
        return replace(found, seen=seen)
    found.seen = seen
    raise found


def _read(path: Path, cutter: ViewCutter, rule: PixelRule, deadline: float, links: Links | None) -> Clip:
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"cannot be opened: {error.strerror}") from error
    if links is not None and not links.allow(path):
        raise VideoError(f"a link leads it out of {links.root}; --follow-links allows that")
    if stat.S_ISDIR(status.st_mode):
        pixels, note = decode_folder(path, cutter.choose, rule, deadline=deadline, links=links or Links(path))
    else:
        require_content(status)
        pixels, note = decode_video(path, cutter.choose, rule, deadline=deadline)
    return Clip(cutter.cut(pixels), note)


def require_content(status: os.stat_result) -> None:
    """VideoError unless it is a file with something in it."""
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("neither a file nor a folder of frames")
    if status.st_size == 0:
        raise VideoError("empty file")
