"""Chosen frames of one video file, the same ones that decoding everything and indexing would give.

    the header's count, or count the packets            n frames, as the container claims
    one decoding pass: frames idx_k, the last frame,    as many frames as asked for: n is true, done
      and frame n, which must not exist                 otherwise the claim was wrong:
    a second pass with the number of frames that the    exact
      first one decoded, or that a count of them gives

A claim costs a tenth of decoding, or nothing, and is right for whole videos in the usual codecs. It differs from the
frames that come out for truncated files, edit lists, field pictures and lies; asking for the last frame and for one
that must not exist finds every such case.

Where damage leaves too few frames the file is decoded once more with what ffmpeg can do against damage, and fails if
that does not help: see `decode_video`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from ..errors import VideoError
from .container import claimed_frames
from .ffmpeg import FILE, UnreadableError, command_line, raise_if_failed, run_ffmpeg
from .pixels import PixelRule, render

# Demuxers that read one file and nothing else: no playlists, no scripts, no image sequences, no devices.
# Audio alone is let in so that it can be told from a damaged file.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi,flv,mpegts,mpeg,mpegvideo,m4v,asf,ogg,gif,apng,ivf,nut,mxf,rm,dv,yuv4mpegpipe",
    "h264,hevc,vvc,obu,vc1,mjpeg",
    "wav,flac,mp3",
)
MAX_PIXELS = 8192 * 8192
MAX_FRAMES = 1_000_000
# Frames whose references are lost or begin after them, which decoders hold back. Nothing else gives more frames of a
# damaged file (docs/reliability.md): ffmpeg conceals errors inside a frame, and goes on after them, without being told.
CONCEAL = {"flags": "+output_corrupt", "flags2": "+showall"}
_PROGRESS_BYTES = 1 << 22


@dataclass(frozen=True)
class _Attempt:
    """What came of believing that a video has n frames; frames is None when it has not."""

    n: int
    frames: np.ndarray | None
    complaint: str = ""
    decodable: int = 0  # where the attempt found out


@dataclass(frozen=True)
class _Decoded:
    """frames: the chosen ones of n, None when n is 0; claimed: by the container; complaint: ffmpeg's, or ''."""

    frames: np.ndarray | None
    n: int
    claimed: int
    complaint: str


def decode_video(
    path: Path, choose: Callable[[int], list[int]], rule: PixelRule, *, deadline: float
) -> tuple[np.ndarray, str]:
    """(uint8 RGB `[m, crops, size, size, 3]`, note) of the frames `choose(n)` of a regular file with n frames.

    A video needs as many frames as are different in the clip that its container's claim would give: 16 of a claim of
    300, 5 of a claim of 5. With fewer, and a sign of damage, it is decoded again with error concealment, which the
    note says; with fewer again it is a VideoError.
    """
    try:
        plain = _decode(path, choose, rule, deadline)
        found, needed = plain, len(set(choose(plain.claimed))) if plain.claimed else 1
        if plain.n < needed and (plain.n == 0 or _is_damaged(path, plain, deadline)):
            found = _decode(path, choose, rule, deadline, conceal=True)
    except UnreadableError as error:
        raise VideoError(f"not a video that ffmpeg can read: {error}") from error
    if found.frames is None:
        raise VideoError(": ".join(part for part in ("no frame could be decoded", plain.complaint) if part))
    count = f"container claims {plain.claimed} frames, {plain.n} decodable" if plain.n < plain.claimed else ""
    if found is not plain:
        count = f"{count or 'no frame decodable'}, {found.n} with error concealment"
        if found.n < needed:
            raise VideoError(f"{count}, {needed} needed{': ' * bool(plain.complaint)}{plain.complaint}")
    return found.frames, ": ".join(part for part in (count, plain.complaint) if part)


def _is_damaged(path: Path, plain: _Decoded, deadline: float) -> bool:
    """Whether frames are missing for damage: ffmpeg complains, or packets that are claimed cannot be read. Edit lists
    and field pictures make fewer frames of a whole file."""
    return bool(plain.complaint) or _count(path, decode=False, deadline=deadline) < plain.claimed


def _decode(
    path: Path, choose: Callable[[int], list[int]], rule: PixelRule, deadline: float, *, conceal: bool = False
) -> _Decoded:
    claimed = claimed_frames(path) or _count(path, decode=False, deadline=deadline)
    first = last = _attempt(path, choose, claimed, rule, deadline, conceal)
    if last.frames is None and first.decodable:
        last = _attempt(path, choose, first.decodable, rule, deadline, conceal)
    if last.frames is None:
        n = _count(path, decode=True, deadline=deadline, conceal=conceal)
        last = _attempt(path, choose, n, rule, deadline, conceal)
    if last.n and last.frames is None:
        raise VideoError("decoding it twice gave two different numbers of frames")
    return _Decoded(last.frames, last.n, claimed, first.complaint)


def _attempt(
    path: Path, choose: Callable[[int], list[int]], n: int, rule: PixelRule, deadline: float, conceal: bool
) -> _Attempt:
    """The chosen frames of a video that has n frames, if it has."""
    if n == 0:
        return _Attempt(n, None)
    if n > MAX_FRAMES:
        raise VideoError(f"claims {n} frames, {MAX_FRAMES} are allowed; cut it into shorter videos")
    chosen = choose(n)
    distinct = sorted({*chosen, n - 1})
    stream = open_video(conceal)["V:0"]
    if len(distinct) < n:
        stream = stream.filter("select", _is_one_of([*distinct, n]))
    done = render(stream, rule, at_most=len(distinct) + 1, deadline=deadline, file=path)
    if len(done.frames) != len(distinct):
        # Too many frames: the run ended before the video did.
        reached_end = len(done.frames) < len(distinct)
        return _Attempt(n, None, done.complaint, (done.decoded or 0) if reached_end else 0)
    if chosen == distinct:
        return _Attempt(n, done.frames, done.complaint)
    place = {k: i for i, k in enumerate(distinct)}
    return _Attempt(n, done.frames[[place[k] for k in chosen]], done.complaint)  # frames: [m, crops, h, w, 3]


def _is_one_of(numbers: list[int]) -> str:
    """An ffmpeg expression that is true for frame n when n is in a sorted list.

    A binary search: a flat sum of comparisons would be too deep for ffmpeg's parser from 101 terms on.
    """
    if len(numbers) == 1:
        return f"eq(n,{numbers[0]})"
    half = len(numbers) // 2
    return f"if(lt(n,{numbers[half]}),{_is_one_of(numbers[:half])},{_is_one_of(numbers[half:])})"


def open_video(conceal: bool = False) -> Any:
    """An ffmpeg-python input of one file (named by `command_line`) that opens nothing else. conceal: see CONCEAL."""
    return ffmpeg.input(
        FILE,
        # Videos are decoded side by side, not in parts; and some decoders are not deterministic with more (Theora's).
        threads=1,
        protocol_whitelist="file",
        format_whitelist=",".join(CONTAINERS),
        max_pixels=MAX_PIXELS,
        # A picture size that changes in mid-stream would rebuild the graph, and `select` would count from 0 again.
        reinit_filter=0,
        **(CONCEAL if conceal else {}),
    )


def _count(path: Path, *, decode: bool, deadline: float, conceal: bool = False) -> int:
    """Frames by decoding them all, or packets without decoding any."""
    how = {"c": "wrapped_avframe", "fps_mode": "passthrough", "max_error_rate": 1} if decode else {"c": "copy"}
    output = (
        open_video(conceal)["V:0"]
        .output("pipe:1", format="null", progress="pipe:1", **{"frames:v": MAX_FRAMES + 1}, **how)
        .global_args("-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+error")
    )
    done = run_ffmpeg(command_line(output, path), deadline=deadline, max_output=_PROGRESS_BYTES)
    raise_if_failed(done)
    counts = re.findall(rb"^frame=\s*(\d+)", done.output, re.MULTILINE)
    return int(counts[-1]) if counts else 0
