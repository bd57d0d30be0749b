"""How many frames a Matroska or WebM file holds: blocks of its first video track, counted without a process.

Every element is (identifier, size, content). Some are opened, which here means stepping over their head only; all
others are skipped whole, so a file is one flat walk, also where a live stream left sizes unknown:

    EBML | Segment> | SeekHead | Tracks> TrackEntry> number, type, ... | Cluster> time, SimpleBlock, SimpleBlock ...
                                                                         Cluster> time, BlockGroup> Block ...

RFC 9559 (Matroska) and RFC 8794 (EBML). Like every claim of a container, the number is checked by decoding.
"""

import os

_SEGMENT, _TRACKS, _ENTRY, _NUMBER, _TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0xD7, 0x83
_CLUSTER, _GROUP, _BLOCK, _SIMPLE_BLOCK = 0x1F43B675, 0xA0, 0xA1, 0xA3
_OPENED = {_SEGMENT, _TRACKS, _ENTRY, _CLUSTER, _GROUP}
_VIDEO = 1
_HEAD = 24  # bytes: identifier (4), size (8), track number (8), time (2), flags (1)
_MOST_ELEMENTS = 4000  # about 8 ms; in a longer file the cost of letting ffmpeg count does not show


def block_count(descriptor: int, size: int) -> int | None:
    """Blocks of the first video track in an open file of `size` bytes; None when this walk cannot tell."""
    place, count = 0, 0
    tracks: list[dict[int, int]] = []
    video: int | None = None
    for _ in range(_MOST_ELEMENTS):
        head = os.pread(descriptor, _HEAD, place)
        if len(head) < 2:
            return count if place >= size else None
        identifier, at = _number(head, 0, keep_marker=True)
        length, at = _number(head, at)
        if identifier == _ENTRY:
            tracks.append({})
        elif identifier in (_NUMBER, _TYPE) and tracks:
            tracks[-1][identifier] = int.from_bytes(head[at : at + length], "big")
        elif identifier in (_SIMPLE_BLOCK, _BLOCK):
            if video is None:
                video = next((track.get(_NUMBER) for track in tracks if track.get(_TYPE) == _VIDEO), None)
            number, at_time = _number(head, at)
            if video is None or head[at_time + 2] & 0x06:
                return None  # no video before the first block, or several frames laced into one
            count += number == video
        place += at if identifier in _OPENED else at + length
    return None


def _number(head: bytes, at: int, *, keep_marker: bool = False) -> tuple[int, int]:
    """(a variable-length number, the place after it): the first byte's leading zeros say how many bytes follow."""
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big")
    return value if keep_marker else value & ((1 << 7 * width) - 1), at + width
