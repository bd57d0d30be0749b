"""One video, whatever it is stored as, to one clip of pixels."""

import stat
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import VideoError
from .frame_folder import decode_folder
from .pixels import PixelRule
from .sampling import select_indices
from .video_file import decode_video


@dataclass(frozen=True)
class Clip:
    """The frames of one video that a backbone sees.

    pixels: uint8 RGB `[frames, size, size, 3]`.
    note: '' or one line on what was wrong with the video although it gave its frames.
    """

    pixels: np.ndarray
    note: str

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[-1] != 3:
            raise ValueError(f"pixels ({self.pixels.dtype} {self.pixels.shape}) must be uint8 [frames, h, w, 3]")

    def __repr__(self) -> str:
        return f"Clip(pixels=uint8 {list(self.pixels.shape)}, note={self.note!r})"


def decode_clip(
    path: Path,
    *,
    frames: int,
    rule: PixelRule,
    sampling: str = "even",
    key: str = "",
    timeout_s: float = 120,
) -> Clip:
    """The `frames` frames of a video file or a folder of frames that `sampling` chooses, as `rule` wants them.

    key: the video's key in the store; seeds the rules that draw. timeout_s: seconds for all of it.
    The pixels depend on the file, the arguments and the ffmpeg binary alone. Raises VideoError with a reason of one
    line for anything that is no usable video, whatever its content tries.
    """

    def choose(n: int) -> list[int]:
        return select_indices(sampling, n, frames, key=key)

    deadline = time.monotonic() + timeout_s
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        pixels, note = decode_folder(path, choose, rule, deadline=deadline)
    elif not stat.S_ISREG(status.st_mode):
        raise VideoError("neither a file nor a folder of frames")
    elif status.st_size == 0:
        raise VideoError("empty file")
    else:
        pixels, note = decode_video(path, choose, rule, deadline=deadline)
    return Clip(pixels, note)
