"""Wrap image files as they are into one stream that ffmpeg reads from a pipe: an AVI with one image a packet.

ffmpeg's own image readers take patterns of file names, or guess in a concatenated stream where one image ends and
the next begins. Here the border of each image is the border of its file, ffmpeg opens no file at all, and the
decoder is named by us after the file's first bytes: the name of an image decides nothing.
"""

import struct
from collections.abc import Sequence

# First bytes -> ffmpeg's decoder. Offset 0 but for WebP, whose first four bytes are a container's.
_MAGIC = (
    (b"\xff\xd8\xff", "mjpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"P6", "ppm"),
    (b"P5", "pgm"),
)


def image_codec(data: bytes) -> str | None:
    """The ffmpeg decoder for an image file, or None when it is of no kind that is known here."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((codec for magic, codec in _MAGIC if data.startswith(magic)), None)


def as_avi(images: Sequence[bytes]) -> bytes:
    """An AVI of one video stream whose packets are `images`, byte for byte; size and codec are left to the decoder.

    RIFF 'AVI '
      LIST 'hdrl':  'avih' main header,  LIST 'strl':  'strh' stream header,  'strf' bitmap header
      LIST 'movi':  '00dc' image,  '00dc' image,  ...
    """
    count = len(images)
    main = struct.pack("<14I", 40_000, 0, 0, 0, count, 0, 1, 0, 16, 16, 0, 0, 0, 0)
    head = struct.pack("<4s4sIHHIIIIIIII4H", b"vids", b"IMGS", 0, 0, 0, 0, 1, 25, 0, count, 0, 0, 0, 0, 0, 16, 16)
    bitmap = struct.pack("<IiiHH4sIiiII", 40, 16, 16, 1, 24, b"IMGS", 0, 0, 0, 0, 0)
    stream = _list(b"strl", [_chunk(b"strh", head), _chunk(b"strf", bitmap)])
    header = _list(b"hdrl", [_chunk(b"avih", main), stream])
    movie = _list(b"movi", [_chunk(b"00dc", image) for image in images])
    return _chunk(b"RIFF", b"".join([b"AVI ", header, movie]))


def _chunk(name: bytes, data: bytes) -> bytes:
    return b"".join([name, struct.pack("<I", len(data)), data, b"\0" * (len(data) % 2)])


def _list(name: bytes, parts: Sequence[bytes]) -> bytes:
    return _chunk(b"LIST", b"".join([name, *parts]))
