"""How many frames a file's own header claims, read in a few small steps without starting a process.

A claim is a guess that saves time: `video_file` checks each one against what is decoded, so nothing that stands in
a file from a stranger can do worse here than be wrong.

    MP4 / MOV   moov > trak (whose mdia > hdlr is 'vide') > mdia > minf > stbl > stsz: sample count
    AVI         RIFF 'AVI ' > LIST 'hdrl' > LIST 'strl' (whose strh is 'vids') > strh: length in frames, less the empty
                ones in RIFF 'AVI ' > idx1
    Matroska    no such field: its blocks are counted (see matroska.py)

ISO/IEC 14496-12 section 8.7.3.2, and Microsoft's AVISTREAMHEADER and AVIOLDINDEX.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .matroska import block_count

_MOST_ENTRIES = 1_000_000  # of an index: more frames than a video may have
_MOST_BOXES = 512  # more than any real file has on the way; bounds the work that a made-up file can cause


def claimed_frames(path: Path) -> int | None:
    """Frames of the first video stream as the header has it; None when it does not say or is no such container."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
            size = file.seek(0, 2)
            if start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                claim = _mp4(file, size)
            elif start[:4] == b"RIFF" and start[8:] == b"AVI ":
                claim = _avi(file, size)
            elif start[:4] == b"\x1a\x45\xdf\xa3":
                claim = block_count(file.fileno(), size)
            else:
                claim = None
    except (OSError, struct.error, IndexError):
        return None  # ffmpeg will say better what is wrong
    return claim or None


def _mp4(file: BinaryIO, size: int) -> int | None:
    moov = _find(_boxes(file, 0, size), b"moov")
    if moov is None or _find(_boxes(file, *moov), b"mvex"):
        return None  # fragments: the samples are counted elsewhere
    for name, start, end in _boxes(file, *moov):
        mdia = _find(_boxes(file, start, end), b"mdia") if name == b"trak" else None
        hdlr = _find(_boxes(file, *mdia), b"hdlr") if mdia else None
        if mdia is None or hdlr is None or _at(file, hdlr[0] + 8, "4s") != b"vide":
            continue
        place: tuple[int, int] | None = mdia
        for inner in (b"minf", b"stbl", b"stsz"):
            place = _find(_boxes(file, *place), inner) if place else None
        return int(_at(file, place[0] + 8, ">I")) if place else None
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(name, first byte, last byte + 1) of the content of each box between two places of the file."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", file.read(8)), 16
        stop = end if size == 0 else start + size
        if (size and size < head) or stop > end:
            return
        yield name, start + head, stop
        start = stop


def _find(boxes: Iterator[tuple[bytes, int, int]], wanted: bytes) -> tuple[int, int] | None:
    return next(((start, end) for name, start, end in boxes if name == wanted), None)


def _avi(file: BinaryIO, size: int) -> int | None:
    video: tuple[int, int] | None = None
    for name, start, end in _chunks(file, 12, size):
        if name == b"hdrl":
            video = _avi_video(file, start, end)
        elif name == b"idx1" and video:
            # An index that lies may leave nothing: packets are counted then.
            return max(0, video[1] - _gaps(file, start, end, video[0]))
    return video[1] if video else None


def _avi_video(file: BinaryIO, start: int, end: int) -> tuple[int, int] | None:
    """(number, length in frames) of the first video stream."""
    number = -1
    for name, stream_start, stream_end in _chunks(file, start, end):
        number += name == b"strl"
        strh = _find(_chunks(file, stream_start, stream_end), b"strh") if name == b"strl" else None
        if strh and _at(file, strh[0], "4s") == b"vids":
            return number, int(_at(file, strh[0] + 32, "<I"))
    return None


def _gaps(file: BinaryIO, start: int, end: int, number: int) -> int:
    """Empty chunks of a stream in the index: where its rate has a frame and the video has none. They are counted in
    the length, and nothing is decoded from them."""
    file.seek(start)
    index = file.read(min(end - start, 16 * _MOST_ENTRIES))
    names = (b"%02ddc" % number, b"%02ddb" % number)
    entries = struct.iter_unpack("<4sIII", index[: len(index) // 16 * 16])
    return sum(name in names and not length for name, _, _, length in entries)


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """As `_boxes`, for RIFF; a LIST goes by the name of what it lists."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        name, size = struct.unpack("<4sI", file.read(8))
        head = 8
        if name == b"LIST":
            name, head = file.read(4), 12
        yield name, start + head, min(start + 8 + size, end)
        start += 8 + size + size % 2


def _at(file: BinaryIO, place: int, form: str) -> bytes | int:
    file.seek(place)
    return struct.unpack(form, file.read(struct.calcsize(form)))[0]
