"""A folder of frames as a video: natural order, the same filter graph as a video file, images from strangers.

The images are read here, checked, and handed to ffmpeg through a pipe; ffmpeg opens no file.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import ffmpeg
import numpy as np

from ...cache.text import shown
from ..datasets.links import Links
from ..datasets.naming import IMAGE_SUFFIXES, is_frame_name, natural
from ..errors import VideoError
from .ffmpeg import UnreadableError
from .image_stream import as_avi, image_codec
from .pixels import PixelRule, render
from .video_file import MAX_FRAMES, MAX_PIXELS

MAX_IMAGE_BYTES = 64 << 20
# Here damage is an error; by default these decoders would paint over it. TIFF's takes unknown tags for damage.
_STRICT = ("mjpeg", "png")


def list_frames(folder: Path) -> list[str]:
    """The names of the folder's frames in natural order (frame2 before frame10).

    Hidden files and other extensions are ignored. VideoError when a frame is no regular file, or there is none.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_frame_name(entry.name):
                continue
            if not entry.is_file():
                raise VideoError(f"frame '{shown(entry.name)}' is not a file")
            names.append(entry.name)
    if not names:
        raise VideoError(f"a folder without frames ({', '.join(IMAGE_SUFFIXES)})")
    if len(names) > MAX_FRAMES:
        raise VideoError(f"has more than {MAX_FRAMES} frames; cut it into shorter videos")
    return sorted(names, key=natural)


def decode_folder(
    folder: Path, choose: Callable[[int], list[int]], rule: PixelRule, *, deadline: float, links: Links
) -> tuple[np.ndarray, str]:
    """(uint8 RGB `[m, crops, size, size, 3]`, note) of the frames `choose(n)` of a folder with n images.

    links: where those of frames may lead. The images may differ in size and kind. VideoError names the first one that
    cannot be read; its damage is not painted over, for an image has no neighbours to conceal it from.
    """
    try:
        names = list_frames(folder)
        chosen = choose(len(names))
        images = {k: _read_image(folder, names[k], links) for k in sorted(set(chosen))}
    except OSError as error:
        raise VideoError(f"cannot be read: {error.strerror}") from error
    frames: dict[int, np.ndarray] = {}
    complaints: list[str] = []
    for codec in sorted({codec for codec, _ in images.values()}):
        same = {k: data for k, (kind, data) in images.items() if kind == codec}
        decoded, complaint = _decode_images(list(same.values()), codec, rule, deadline)
        if len(decoded) == len(same) and not complaint:
            frames.update(zip(same, decoded, strict=True))
            continue
        # Something is wrong with one of them: take them one by one and see which.
        for k, data in same.items():
            decoded, complaint = _decode_images([data], codec, rule, deadline)
            if len(decoded) != 1:
                reason = complaint or "no picture in it"
                raise VideoError(f"frame '{shown(names[k])}' is not an image that ffmpeg can read: {reason}")
            frames[k] = decoded[0]
            complaints += [f"frame '{shown(names[k])}': {complaint}"] if complaint else []
    return np.stack([frames[k] for k in chosen]), complaints[0] if complaints else ""  # [m, crops, h, w, 3]


def _decode_images(images: list[bytes], codec: str, rule: PixelRule, deadline: float) -> tuple[np.ndarray, str]:
    """(uint8 RGB `[k, crops, size, size, 3]`, complaint): k is len(images) when every image could be decoded."""
    stream = ffmpeg.input(
        "pipe:0",
        format="avi",
        threads=1,
        protocol_whitelist="pipe",
        format_whitelist="avi",
        max_pixels=MAX_PIXELS,
        # One packet, one image: nothing may look inside for more.
        fflags="noparse+nofillin",
        **{"c:v": codec},
        **({"err_detect": "crccheck+bitstream+buffer+explode"} if codec in _STRICT else {}),
    )["v:0"]
    try:
        done = render(stream, rule, at_most=len(images) + 1, deadline=deadline, stdin=as_avi(images))
        return done.frames, done.complaint
    except UnreadableError as error:
        return np.empty((0, len(rule.crops), rule.size, rule.size, 3), np.uint8), str(error)


def _read_image(folder: Path, name: str, links: Links) -> tuple[str, bytes]:
    """(decoder, content) of one frame; VideoError when it is no image file, or a link that may not be followed."""
    path = folder / name
    if path.is_symlink() and not links.allow(path):
        raise VideoError(f"frame '{shown(name)}' is a link that leads out of {links.root}; --follow-links allows that")
    # Not blocking: a pipe would hang here before it could be refused.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise VideoError(f"frame '{shown(name)}' is not a file")
        data = file.read(MAX_IMAGE_BYTES + 1)
    if not data:
        raise VideoError(f"frame '{shown(name)}' is an empty file")
    if len(data) > MAX_IMAGE_BYTES:
        raise VideoError(f"frame '{shown(name)}' is larger than {MAX_IMAGE_BYTES >> 20} MB")
    codec = image_codec(data)
    if codec is None:
        raise VideoError(f"frame '{shown(name)}' is not an image of a known kind")
    return codec, data
