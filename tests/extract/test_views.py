"""Views of a video: cut from one decoding, each as if it had been decoded alone and cropped by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mastaf.cache.errors import CacheError
from mastaf.cache.views import CROPS, parse_view
from mastaf.extract.decoding import ffmpeg, pixels
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.pixels import PixelRule, pixel_rule
from mastaf.extract.decoding.sampling import even_indices, jitter_indices
from mastaf.extract.errors import VideoError

H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")
VIDEOS: dict[str, tuple[str, ...]] = {
    "views.mp4": (*H264, "-bf", "3"),
    "views_open.ts": (*H264, "-x264-params", "open-gop=1:keyint=7:bframes=3"),
    "views_irregular.mp4": (*H264, "-vf", "setpts=(N+floor(N/4)*5)/20/TB", "-fps_mode", "passthrough"),
    "views.webm": ("-c:v", "libvpx-vp9", "-row-mt", "0", "-b:v", "400k", "-cpu-used", "4"),
    "views.avi": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),
    "views.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
    "views.gif": (),
    "views.h264": H264,
}
ALL = ("plain", "t1", "t2", *CROPS, "flip", "t1+flip", "topleft+t2", "bottomright+t2+flip", "right+flip")
FRAMES = 6

MakeVideo = Callable[..., Path]


@pytest.fixture(params=["squash", "short"])
def rule(request: pytest.FixtureRequest) -> PixelRule:
    return pixel_rule(41, resize=request.param, resize_size=48)


@pytest.fixture(params=[*VIDEOS, "folder"])
def video(request: pytest.FixtureRequest, make_video: MakeVideo, frame_folder: Path) -> Path:
    if request.param == "folder":
        return frame_folder
    return make_video(request.param, *VIDEOS[request.param], frames=20, height=48, width=80)


def whole_frames(path: Path, rule: PixelRule, ffmpeg_run: Callable[..., bytes]) -> np.ndarray:
    """Every frame, resized and not cropped, uint8 [n, high, wide, 3]: by a command line of our own."""
    side = rule.resize_size
    wide = side if rule.resize == "squash" else -1  # no video here is higher than wide
    graph = f"scale={wide}:{side}:flags={rule.scaler},format=rgb24"
    source = ("-i", path / "f%d.png") if path.is_dir() else ("-threads", "1", "-i", path)
    form = ("-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1")
    raw = ffmpeg_run("-max_error_rate", "1", *source, "-map", "0:v:0", "-vf", graph, *form)
    if rule.resize == "short":
        wide = 64 if path.is_dir() else 80
    return np.frombuffer(raw, np.uint8).reshape(-1, side, wide, 3)


def cut(name: str, frames: np.ndarray, size: int, key: str) -> np.ndarray:
    """One view of all frames [n, high, wide, 3], pixel by pixel from the words of its name."""
    view = parse_view(name)
    n, high, wide, _ = frames.shape
    top = 0 if view.crop.startswith("top") else high - size if view.crop.startswith("bottom") else (high - size) // 2
    left = 0 if view.crop.endswith("left") else wide - size if view.crop.endswith("right") else (wide - size) // 2
    chosen = jitter_indices(n, FRAMES, name=view.jitter, key=key) if view.jitter else even_indices(n, FRAMES)
    out = np.empty((FRAMES, size, size, 3), np.uint8)
    for place, k in enumerate(chosen):
        for column in range(size):
            out[place, :, size - 1 - column if view.flip else column] = frames[k, top : top + size, left + column]
    return out


def test_every_view_is_cut_from_the_frames_of_a_plain_decoder(
    video: Path, rule: PixelRule, ffmpeg_run: Callable[..., bytes]
) -> None:
    frames = whole_frames(video, rule, ffmpeg_run)
    clip = decode_clip(video, frames=FRAMES, rule=rule, views=ALL, key="a key")
    assert clip.views.shape == (len(ALL), FRAMES, 41, 41, 3)
    assert clip.note == ""
    for name, pixels_of in zip(ALL, clip.views, strict=True):
        assert (pixels_of == cut(name, frames, 41, "a key")).all(), name
    assert clip.views.flags.c_contiguous


def test_plain_keeps_its_bits_whatever_is_asked_for_beside_it(video: Path, rule: PixelRule) -> None:
    alone = decode_clip(video, frames=FRAMES, rule=rule, key="k").pixels
    for others in (("t1",), ("left",), ("flip", "bottomright+t3"), ALL[1:]):
        clip = decode_clip(video, frames=FRAMES, rule=rule, views=("plain", *others), key="k")
        assert (clip.pixels == alone).all(), others


def test_one_run_of_ffmpeg_gives_all_views(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def counted(command: list[str], **limits: object) -> ffmpeg.Finished:
        runs.append(command)
        return ffmpeg.run_ffmpeg(command, **limits)  # type: ignore[arg-type]

    monkeypatch.setattr(pixels, "run_ffmpeg", counted)
    video = make_video("views.mp4", *VIDEOS["views.mp4"], height=48, width=80)
    decode_clip(video, frames=FRAMES, rule=pixel_rule(41), views=ALL)
    assert len(runs) == 1


@pytest.mark.parametrize("count", [1, 3, 6, 7, 8])
def test_short_videos_repeat_frames_or_show_all_of_them(
    count: int, make_video: MakeVideo, frame_folder: Path, frame_numbers: Callable[..., list[int]], tmp_path: Path
) -> None:
    for k in range(1, count + 1):
        shutil.copy(frame_folder / f"f{k}.png", tmp_path)
    for path in (make_video(f"views{count}.mp4", *H264, frames=count), tmp_path):
        clip = decode_clip(path, frames=6, rule=pixel_rule(56, resize_size=64), views=("plain", "t1"), key="k")
        assert frame_numbers(clip.views[0]) == even_indices(count, 6)
        assert frame_numbers(clip.views[1]) == jitter_indices(count, 6, name="t1", key="k")


def test_a_claim_that_is_wrong_costs_no_view(
    make_video: MakeVideo, every_frame: Callable[..., np.ndarray], tmp_path: Path
) -> None:
    whole = make_video("views_cut.avi", *VIDEOS["views.avi"])
    cut_off = tmp_path / "cut.avi"
    cut_off.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    rule = pixel_rule(56, resize_size=64)
    every = every_frame(cut_off, rule)
    assert 6 < len(every) < 20
    clip = decode_clip(cut_off, frames=4, rule=rule, views=("plain", "t1", "left"), key="k")
    assert clip.note.startswith(f"container claims 20 frames, {len(every)} decodable")
    assert (clip.views[0] == every[even_indices(len(every), 4)]).all()
    assert (clip.views[1] == every[jitter_indices(len(every), 4, name="t1", key="k")]).all()


def test_a_picture_size_that_changes_in_mid_stream(make_video: MakeVideo, tmp_path: Path) -> None:
    """The crops are those of each frame, and no frame is lost between them."""
    parts = [make_video(f"views_part{width}.ts", *H264, width=width, height=48) for width in (64, 96)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    rule = pixel_rule(40, resize_size=48)
    whole = decode_clip(joined, frames=40, rule=pixel_rule(48, resize_size=48)).pixels
    clip = decode_clip(joined, frames=40, rule=rule, views=("plain", "topleft", "bottomright"))
    assert (clip.views[1] == whole[:, :40, :40]).all()
    assert (clip.views[2] == whole[:, 8:, 8:]).all()
    assert (clip.views[0] == whole[:, 4:44, 4:44]).all()


def test_a_broken_frame_is_named_with_several_crops_too(frame_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "frames"
    shutil.copytree(frame_folder, copy)
    (copy / "f7.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(VideoError, match=r"frame 'f7\.png' is not an image"):
        decode_clip(copy, frames=20, rule=pixel_rule(40), views=("plain", "left"))


def test_unknown_views_are_refused(frame_folder: Path) -> None:
    with pytest.raises(CacheError, match="did you mean flip"):
        decode_clip(frame_folder, frames=4, rule=pixel_rule(40), views=("plain", "flop"))
