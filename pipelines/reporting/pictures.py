"""Frames of the videos behind a store, as a page can hold them: strips of small JPEGs, from files of strangers."""

import base64
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import ffmpeg
import numpy as np
from numpy.typing import NDArray

from ...cache.store import Store
from ...extract.datasets.links import Links
from ...extract.decoding.decode import decode_clip
from ...extract.decoding.ffmpeg import command_line, raise_if_failed, run_ffmpeg
from ...extract.decoding.pixels import pixel_rule_of
from ...extract.errors import ExtractError, VideoError
from ..explaining.overlay import choose

FRAMES, SIDE = 4, 112  # of a strip, and the most pixels of a frame's side
_MOST_SIDE, _MOST_FRAMES = 1024, 512  # that a stranger's recipe may ask for
_TIMEOUT_S, _MOST_JPEG = 20.0, 1 << 20
_END = b"\xff\xd9"

Frames = NDArray[np.uint8]  # RGB [m, size, size, 3]


class Videos:
    """The videos of a store, each decoded once, as its backbone saw them.

    root: where they are, else where they were when the store was made.
    """

    def __init__(self, store: Store, root: Path | None = None) -> None:
        self._store = store
        known = store.header.provenance.get("root")
        self.root = root or (Path(known) if isinstance(known, str) and known else None)
        self._kept: dict[int, Frames | str] = {}

    def clip(self, row: int) -> Frames | str:
        """All frames of a row's clip, uint8 RGB [frames, size, size, 3], or why there are none."""
        if row not in self._kept:
            try:
                self._kept[row] = self._read(row)
            except (VideoError, ExtractError, OSError) as error:
                self._kept[row] = f"no picture: {error}"
        return self._kept[row]

    def _read(self, row: int) -> Frames | str:
        spec, path = self._store.spec, PurePosixPath(self._store.index.paths[row])
        if self.root is None:
            return "no picture: the store does not say where its videos were; give their folder with --root"
        if not self.root.is_dir():
            return f"no picture: the videos are not in {self.root}; say where they are with --root"
        if path.is_absolute() or ".." in path.parts:
            return "no picture: the path of this video leaves its folder"
        if spec.size > _MOST_SIDE or spec.resize_size > 2 * _MOST_SIDE or spec.frames > _MOST_FRAMES:
            return "no picture: the clips of this store are too large to be shown"
        found = decode_clip(
            self.root / path,
            frames=spec.frames,
            rule=pixel_rule_of(spec),
            sampling=spec.sampling,
            key=self._store.index.keys[row],
            timeout_s=_TIMEOUT_S,
            links=Links(self.root),
        )
        return found.pixels


def strips(clips: Sequence[Frames]) -> list[str]:
    """Some frames of each clip side by side, small, as a data address of a JPEG; clips of one store are of one size."""
    pictures = []
    for frames in clips:
        some = shrink(frames[choose(len(frames), FRAMES)])  # [k, side, side, 3]
        pictures.append(np.concatenate(list(some), axis=1))  # [side, k * side, 3]
    coded = _jpegs(np.stack(pictures)) if pictures else []
    return ["data:image/jpeg;base64," + base64.b64encode(one).decode() for one in coded]


def shrink(frames: Frames) -> Frames:
    """Frames of at most `SIDE` pixels a side: the means of whole squares of pixels."""
    factor = -(-frames.shape[1] // SIDE)
    side = frames.shape[1] // factor * factor
    cut = frames[:, :side, :side].astype(np.float32)
    split = cut.reshape(len(frames), side // factor, factor, side // factor, factor, 3)  # [m, s, f, s, f, 3]
    return np.rint(split.mean(axis=(2, 4))).astype(np.uint8)


def _jpegs(pictures: Frames) -> list[bytes]:
    """uint8 RGB [n, height, width, 3] as n JPEG files, made by one process."""
    count, height, width, _ = pictures.shape
    output = (
        ffmpeg.input("pipe:0", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}")
        .output("pipe:1", format="image2pipe", vcodec="mjpeg", **{"q:v": 5})
        .global_args("-hide_banner", "-nostdin", "-loglevel", "level+error")
    )
    deadline = time.monotonic() + _TIMEOUT_S
    most = _MOST_JPEG * count
    done = run_ffmpeg(command_line(output), deadline=deadline, max_output=most, stdin=pictures.tobytes())
    raise_if_failed(done)
    # Inside a JPEG a byte FF of its data is followed by 00, so these two are its end alone.
    files = [part + _END for part in bytes(done.output).split(_END)[:-1]]
    if len(files) != count:
        raise VideoError(f"ffmpeg made {len(files)} of {count} pictures")
    return files
