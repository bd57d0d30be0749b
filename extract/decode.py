"""One video, whatever it is stored as, to the pixels of its views, decoded once."""

import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import VideoError
from .frame_folder import decode_folder
from .pixels import PixelRule
from .video_file import decode_video
from .views import ViewCutter


@dataclass(frozen=True)
class Clip:
    """The frames of one video that a backbone sees.

    views: uint8 RGB `[views, frames, size, size, 3]`.
    note: '' or one line on what was wrong with the video although it gave its frames.
    """

    views: np.ndarray
    note: str

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
    timeout_s: float = 120,
) -> Clip:
    """The `frames` frames of a video file or a folder of frames that `sampling` chooses, as `rule` wants them.

    views: names (see mastaf.cache.views), all cut from one decoding; the pixels of one do not depend on the others.
    key: the video's key in the store; seeds the rules that draw. timeout_s: seconds for all of it.
    The pixels depend on the file, the arguments and the ffmpeg binary alone. Raises VideoError with a reason of one
    line for anything that is no usable video, whatever its content tries.
    """
    cutter = ViewCutter(views, frames=frames, sampling=sampling, key=key)
    rule = replace(rule, crops=cutter.crops)
    deadline = time.monotonic() + timeout_s
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        pixels, note = decode_folder(path, cutter.choose, rule, deadline=deadline)
    elif not stat.S_ISREG(status.st_mode):
        raise VideoError("neither a file nor a folder of frames")
    elif status.st_size == 0:
        raise VideoError("empty file")
    else:
        pixels, note = decode_video(path, cutter.choose, rule, deadline=deadline)
    return Clip(cutter.cut(pixels), note)
