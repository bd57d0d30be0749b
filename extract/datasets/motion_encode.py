"""From rendered frames to H.264 files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import ExtractError
from .motion_programmes import FRAMES
from .motion_render import SIDE

RATE = 16  # frames a second


def encode_clips(clips: Iterator[np.ndarray], count: int, folder: Path) -> None:
    """Encode clips, uint8 [frames, SIDE, SIDE, 3] each, as folder/clipNNN.mp4: one ffmpeg, one segment a clip.

    A constant quantiser and no B-frames, so that a clip's bytes do not depend on those before it.
    """
    import ffmpeg

    from ..decoding.encode import feed

    cuts = ",".join(str(FRAMES * number) for number in range(1, count)) or str(FRAMES)
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{SIDE}x{SIDE}", framerate=RATE)
    encoder = {"c:v": "libx264", "preset": "veryfast", "qp": 18, "pix_fmt": "yuv420p", "threads": 1, "bf": 0}
    groups = {"g": FRAMES, "keyint_min": FRAMES, "sc_threshold": 0}
    segments = {"format": "segment", "segment_frames": cuts, "segment_format": "mp4", "reset_timestamps": 1}
    output = source.output(str(folder / "clip%03d.mp4"), **encoder, **groups, **segments, fflags="+bitexact")
    said = feed(output, clips, folder)
    written = len(list(folder.iterdir()))
    if said is not None or written != count:
        raise ExtractError(f"ffmpeg could not encode the data set `motion` ({said or f'{written} of {count} clips'})")
