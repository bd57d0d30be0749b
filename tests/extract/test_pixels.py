"""Colours and geometry: from stored frames to the pixels that a backbone sees."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.pixels import PixelRule, pixel_rule
from mastaf.extract.errors import ExtractError

MakeVideo = Callable[..., Path]
LOSSLESS: dict[str, tuple[str, ...]] = {
    "bgr0.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
    "gbrp.mkv": ("-c:v", "ffv1", "-pix_fmt", "gbrp"),
    "h264_rgb.mkv": ("-c:v", "libx264rgb", "-qp", "0"),
    "utvideo.avi": ("-c:v", "utvideo", "-pix_fmt", "gbrp"),
    "png.mov": ("-c:v", "png"),
    "huffyuv.avi": ("-c:v", "huffyuv", "-pix_fmt", "rgb24"),
    "qtrle.mov": ("-c:v", "qtrle"),
}


def triangle(source: int, target: int) -> np.ndarray:
    """Bilinear resampling of one axis as a matrix [target, source]; the triangle widens when it shrinks."""
    step = source / target
    matrix = np.empty((target, source))
    for row in range(target):
        centre = (row + 0.5) * step - 0.5
        weights = np.clip(1 - np.abs(np.arange(-2 * source, 3 * source) - centre) / max(step, 1), 0, None)
        inside = np.zeros(source)
        for column, weight in zip(range(-2 * source, 3 * source), weights, strict=True):
            inside[min(max(column, 0), source - 1)] += weight  # the border repeats
        matrix[row] = inside / inside.sum()
    return matrix


def resized(frames: np.ndarray, high: int, wide: int, size: int) -> np.ndarray:
    """Frames [n, h, w, 3] resized to high x wide and cropped in the centre, in floating point: [n, size, size, 3]."""
    rows, columns = triangle(frames.shape[1], high), triangle(frames.shape[2], wide)
    scaled = np.einsum("yh,nhwc,xw->nyxc", rows, frames.astype(float), columns, optimize=True)
    top, left = (high - size) // 2, (wide - size) // 2
    return scaled[:, top : top + size, left : left + size]


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("resize", ["squash", "short"])
def test_folder_of_frames_is_the_lossless_video_made_of_them(
    name: str, resize: str, make_video: MakeVideo, frame_folder: Path
) -> None:
    rule = pixel_rule(56, resize=resize)
    video = decode_clip(make_video(name, *LOSSLESS[name]), frames=7, rule=rule)
    folder = decode_clip(frame_folder, frames=7, rule=rule)
    assert (video.pixels == folder.pixels).all()
    assert (video.note, folder.note) == ("", "")


@pytest.mark.parametrize("name", ["video.mkv", "video.avi", "video.mov"])
def test_folder_of_jpeg_frames_is_the_video_that_holds_them(
    name: str, frame_folder: Path, ffmpeg_run: Callable[..., bytes], tmp_path: Path, rule: PixelRule
) -> None:
    (tmp_path / "frames").mkdir()
    ffmpeg_run("-i", frame_folder / "f%d.png", "-q:v", "2", tmp_path / "frames" / "%03d.jpg")
    ffmpeg_run("-i", tmp_path / "frames" / "%03d.jpg", "-c:v", "copy", tmp_path / name)
    folder = decode_clip(tmp_path / "frames", frames=9, rule=rule)
    assert (folder.pixels == decode_clip(tmp_path / name, frames=9, rule=rule).pixels).all()


@pytest.mark.parametrize(("height", "width"), [(48, 64), (90, 30), (200, 300)])
def test_squash_and_centre_crop(
    height: int, width: int, make_video: MakeVideo, numbered: Callable[..., np.ndarray]
) -> None:
    rule = pixel_rule(49, resize_size=60)
    path = make_video(f"squash{height}.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0", frames=3, height=height, width=width)
    pixels = decode_clip(path, frames=3, rule=rule).pixels
    assert np.abs(resized(numbered(3, height, width), 60, 60, 49) - pixels).max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "high", "wide"), [(48, 64, 60, 80), (64, 48, 80, 60), (90, 31, 174, 60), (50, 50, 60, 60)]
)
def test_short_keeps_the_aspect_ratio(
    height: int, width: int, high: int, wide: int, make_video: MakeVideo, numbered: Callable[..., np.ndarray]
) -> None:
    rule = pixel_rule(49, resize="short", resize_size=60)
    name = f"short{height}x{width}.mkv"
    path = make_video(name, "-c:v", "ffv1", "-pix_fmt", "bgr0", frames=3, height=height, width=width)
    pixels = decode_clip(path, frames=3, rule=rule).pixels
    assert np.abs(resized(numbered(3, height, width), high, wide, 49) - pixels).max() <= 1


PATCHES = ((200, 40, 40), (40, 180, 60), (50, 60, 220), (230, 220, 30), (128, 128, 128), (20, 20, 20))


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "unknown"])
@pytest.mark.parametrize("range_", ["tv", "pc"])
@pytest.mark.parametrize("form", ["yuv420p", "yuv444p10le"])
def test_colours_survive_every_matrix_range_and_depth(
    matrix: str, range_: str, form: str, ffmpeg_run: Callable[..., bytes], tmp_path: Path
) -> None:
    frame = np.zeros((48, 96, 3), np.uint8)
    for k, colour in enumerate(PATCHES):
        frame[:, 16 * k : 16 * k + 16] = colour
    path = tmp_path / "colours.mkv"
    # Unknown matrix: the convention of ffmpeg, OpenCV and PyAV is BT.601 whatever the size.
    out_matrix = "smpte170m" if matrix == "unknown" else matrix
    convert = f"scale=out_color_matrix={out_matrix}:out_range={range_}:flags=accurate_rnd+full_chroma_int,format={form}"
    tags = ("-colorspace", matrix, "-color_range", range_)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "96x48", "-i", "pipe:0")
    untag = f",setparams=colorspace={matrix}" if matrix == "unknown" else ""
    ffmpeg_run(*raw, "-vf", convert + untag, "-c:v", "libx264", "-qp", "0", *tags, path, stdin=frame.tobytes())
    pixels = decode_clip(path, frames=1, rule=pixel_rule(96, resize_size=96)).pixels[0]
    for k, colour in enumerate(PATCHES):
        middle = pixels[48, 16 * k + 8].astype(int)
        assert np.abs(middle - colour).max() <= 3, (colour, middle)


def test_grey_is_not_shifted_by_rounding(make_video: MakeVideo, numbered: Callable[..., np.ndarray]) -> None:
    """Truncation instead of rounding makes every pixel about one half darker."""
    path = make_video("grey.mkv", "-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p", height=160, width=160)
    rule = pixel_rule(40, resize_size=160)
    pixels = decode_clip(path, frames=20, rule=rule).pixels
    expected = resized(numbered(20, 160, 160), 160, 160, 40)
    assert abs((pixels - expected).mean()) < 0.25


def test_defaults_of_the_rule() -> None:
    assert (pixel_rule(224).resize_size, pixel_rule(112).resize_size, pixel_rule(64).resize_size) == (256, 128, 73)
    assert pixel_rule(224).scale == 1 / 255
    assert pixel_rule(224, resize_size=224).resize_size == 224


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resize": "squish"}, "did you mean squash"),
        ({"size": 0}, r"size \(0\) must be at least 1"),
        ({"resize_size": 50}, r"resize_size \(50\) must be at least size \(56\)".replace(r"\(56\)", ".*")),
        ({"mean": (0.5,)}, "must be three numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "must be three numbers"),
    ],
)
def test_a_wrong_rule_says_what_to_do(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ExtractError, match=message):
        replace(pixel_rule(56), **wrong)  # type: ignore[arg-type]
