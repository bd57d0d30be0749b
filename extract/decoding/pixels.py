"""From a decoded frame to the pixels that a backbone sees: one filter graph for videos and for folders of frames.

    frame, any size and format --scale--> resize_size x resize_size --crop--> size x size, RGB24

    with several crops             scaled --+--crop--> centre   --+--> one below the other
                                            +--crop--> topleft  --+

The scale filter goes from the frame's own format (YUV of any matrix, range and depth, or RGB) to RGB24 and to the
new size in one step, with chroma at full resolution and accurate rounding. Going through RGB24 at full size first
gives the same picture to within rounding and costs a fifth of the decoding time of a 1080p video.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from ...cache.console import unknown_name
from ...cache.spec import FeatureSpec
from ...cache.views import CENTRE, CROPS
from ..errors import ExtractError, VideoError
from .ffmpeg import command_line, raise_if_failed, run_ffmpeg
from .ffmpeg_log import decoded_frames, last_error

RESIZE_RULES = ("squash", "short")

# Bilinear; chroma interpolated, not repeated, on both sides; the same bits with and without SIMD.
SCALER = "bilinear+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"

MOST_PIXELS = 1 << 26  # of a clip: 256 frames of 512 x 512; as float32 it is 800 MB

KINETICS_MEAN, KINETICS_STD = (0.4345, 0.4051, 0.3775), (0.2768, 0.2713, 0.2737)


@dataclass(frozen=True, kw_only=True)
class PixelRule:
    """How frames become a backbone's input. Part of a store's recipe.

    resize: `squash` (to resize_size squared, aspect ratio lost) or `short` (short side to resize_size).
    resize_size, size: pixels; the crop is centred, an odd remainder leaves the smaller half left and above.
    crops: what of the resized frame is given, `centre` or names of CROPS. `left` touches the left border and is
        centred between top and bottom, `topleft` is the corner. A backbone's own rule has the centre alone.
    scaler: flags of ffmpeg's scale filter.
    scale, offset, mean, std: the backbone feeds its network (pixel * scale + offset - mean) / std, by channel.
    """

    resize: str
    resize_size: int
    size: int
    scaler: str
    scale: float
    offset: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crops: tuple[str, ...] = (CENTRE,)

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_RULES:
            raise ExtractError(unknown_name("resize rule", self.resize, RESIZE_RULES))
        if self.size < 1:
            raise ExtractError(f"size ({self.size}) must be at least 1 pixel; 112 and 224 are usual")
        if self.resize_size < self.size:
            raise ExtractError(f"resize_size ({self.resize_size}) must be at least size ({self.size}); raise it")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ExtractError(f"mean {self.mean} and std {self.std} must be three numbers, std above 0: one a channel")
        for crop in self.crops:
            if crop not in (CENTRE, *CROPS):
                raise ExtractError(unknown_name("crop", crop, (CENTRE, *CROPS)))


def check_clip(frames: int, size: int) -> None:
    """ExtractError for clips that no memory should be spent on."""
    if frames * size * size > MOST_PIXELS:
        raise ExtractError(
            f"frames ({frames}) x size ({size}) x size must be at most {MOST_PIXELS} pixels a clip; lower --frames or "
            "--size"
        )


def pixel_rule(
    size: int,
    *,
    resize: str = "squash",
    mean: tuple[float, ...] = KINETICS_MEAN,
    std: tuple[float, ...] = KINETICS_STD,
    scale: float = 1 / 255,
    offset: float = 0.0,
    resize_size: int | None = None,
) -> PixelRule:
    """The rule for `size` squared input; frames are resized to 256/224 of it first unless `resize_size` says."""
    if resize_size is None:
        resize_size = round(size * 256 / 224)
    return PixelRule(
        resize=resize,
        resize_size=resize_size,
        size=size,
        scaler=SCALER,
        scale=scale,
        offset=offset,
        mean=tuple(mean),
        std=tuple(std),
    )


def pixel_rule_of(spec: FeatureSpec) -> PixelRule:
    """The rule in a store's recipe. ExtractError for one that there is not."""
    names = ("resize", "resize_size", "size", "scaler", "scale", "offset", "mean", "std")
    return PixelRule(**{name: getattr(spec, name) for name in names})


def to_pixels(stream: Any, rule: PixelRule) -> Any:
    """Append the graph of `rule` to an ffmpeg-python stream: frames of any kind in, RGB24 `[crops, size, size, 3]` out.

    Every frame that enters leaves it. The crops are cut here, because with `short` only the graph knows the size.
    """
    side = rule.resize_size
    # -1: the side that keeps the aspect ratio, rounded to the nearest pixel.
    wide, high = (f"if(gt(iw,ih),-1,{side})", f"if(gt(iw,ih),{side},-1)") if rule.resize == "short" else (side, side)
    scaled = (
        stream.filter("scale", w=wide, h=high, flags=rule.scaler)
        .filter("format", "rgb24")
        # Time stamps from a file may repeat or run backwards; an hour a frame suits any frame rate.
        .filter("setpts", "N*3600/TB")
    )
    if len(rule.crops) == 1:
        return _crop(scaled, rule, rule.crops[0])
    copies = scaled.filter_multi_output("split", len(rule.crops))
    crops = [_crop(copies[number], rule, crop) for number, crop in enumerate(rule.crops)]
    return ffmpeg.filter(crops, "vstack", inputs=len(crops))


def _crop(stream: Any, rule: PixelRule, crop: str) -> Any:
    size = rule.size
    x = "0" if "left" in crop else f"in_w-{size}" if "right" in crop else f"floor((in_w-{size})/2)"
    y = "0" if "top" in crop else f"in_h-{size}" if "bottom" in crop else f"floor((in_h-{size})/2)"
    return stream.filter("crop", size, size, x, y)


@dataclass(frozen=True)
class Rendered:
    """Frames that came out of the graph, uint8 RGB `[k, crops, size, size, 3]`, and what the log said of them.

    complaint: ffmpeg's last error, or ''. decoded: frames that the decoder gave, where the log has it.
    """

    frames: np.ndarray
    complaint: str
    decoded: int | None


def raw_frames(stream: Any, rule: PixelRule, *, at_most: int) -> Any:
    """The ffmpeg-python output of a stream through the graph of `rule`: RGB24 `[crops, size, size, 3]` a frame, to a
    pipe. No frame is repeated or dropped to keep a frame rate."""
    return (
        to_pixels(stream, rule)
        .output("pipe:1", format="rawvideo", fps_mode="passthrough", max_error_rate=1, **{"frames:v": at_most})
        .global_args("-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose")
        .global_args("-filter_complex_threads", "1")
    )


def render(
    stream: Any, rule: PixelRule, *, at_most: int, deadline: float, file: Path | None = None, stdin: bytes = b""
) -> Rendered:
    """Run an ffmpeg-python stream of `file` or `stdin` through the graph of `rule`; stop after `at_most` frames.

    VideoError when ffmpeg fails.
    """
    output = raw_frames(stream, rule, at_most=at_most)
    shape = (len(rule.crops), rule.size, rule.size, 3)  # of one frame
    frame_bytes = math.prod(shape)
    done = run_ffmpeg(command_line(output, file), deadline=deadline, max_output=at_most * frame_bytes, stdin=stdin)
    raise_if_failed(done)
    complaint = last_error(done.log)
    if len(done.output) % frame_bytes:
        raise VideoError(f"ffmpeg stopped in the middle of a frame: {complaint}")
    frames = np.frombuffer(done.output, np.uint8).reshape(-1, *shape)  # [k, crops, h, w, 3]
    return Rendered(frames, complaint, decoded_frames(done.log))
