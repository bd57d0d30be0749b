"""From pictures that are made here to an H.264 file that every player and browser plays."""

import errno
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ExtractError
from .ffmpeg import ffmpeg_exe


def encode(pictures: Iterator[np.ndarray], path: Path, *, rate: int, what: str) -> None:
    """Write pictures, uint8 RGB [height, width, 3] of even sides, as the MP4 file `path`, `rate` a second.

    what: names the film in an error. Raises ExtractError, and OSError where the disk is full.
    """
    import ffmpeg

    first = next(pictures)
    height, width = first.shape[:2]
    source = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate)
    encoder = {"c:v": "libx264", "preset": "veryfast", "crf": 18, "pix_fmt": "yuv420p"}
    # Colours are told, so that no player guesses them from the height; the index stands first, so that browsers begin.
    colours = {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709", "color_range": "tv"}
    output = source.filter("scale", out_color_matrix="bt709", out_range="tv").output(
        str(path.absolute()), **encoder, **colours, movflags="+faststart", fflags="+bitexact"
    )
    said = feed(output.overwrite_output(), chain([first], pictures), path)
    if said is not None:
        raise ExtractError(f"ffmpeg could not encode {what} ({said})")


def feed(output: Any, pictures: Iterable[np.ndarray], target: Path) -> str | None:
    """Run an ffmpeg-python output that reads raw pictures from a pipe. None where it ends well, else why it did not.

    Raises OSError where the disk of `target` is full.
    """
    process = output.global_args("-loglevel", "error", "-nostats").run_async(
        cmd=ffmpeg_exe(), pipe_stdin=True, pipe_stderr=True
    )
    with process:
        try:
            for picture in pictures:
                process.stdin.write(np.ascontiguousarray(picture).data)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg has said why on its error output, and left
        except BaseException:
            process.kill()
            raise
        said = process.stderr.read().decode(errors="replace").strip()
    if "No space left" in said:
        raise OSError(errno.ENOSPC, "No space left on device", str(target))
    if process.returncode == 0:
        return None
    return f"status {process.returncode}: {said.splitlines()[-1] if said else 'no message'}"
