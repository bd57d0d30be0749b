"""Damaged videos that give too few frames: error concealment once, then a failed row; whole ones never notice."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mastaf.extract.decoding import video_file
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.decoding.sampling import even_indices
from mastaf.extract.errors import VideoError

MakeVideo = Callable[..., Path]
H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", "-bf", "0")
SHOW_ALL = ("-flags", "+output_corrupt", "-flags2", "+showall")


def every_frame_concealed(run: Callable[..., bytes], path: Path, rule: PixelRule) -> np.ndarray:
    """All frames as `every_frame` gives them, with those that decoders hold back."""
    corner = (rule.resize_size - rule.size) // 2
    scale = f"scale={rule.resize_size}:{rule.resize_size}:flags={rule.scaler}"
    graph = f"{scale},format=rgb24,crop={rule.size}:{rule.size}:{corner}:{corner}"
    read = ("-max_error_rate", "1", "-threads", "1", *SHOW_ALL, "-i", path, "-map", "0:V:0")
    raw = run(*read, "-vf", graph, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1")
    return np.frombuffer(raw, np.uint8).reshape(-1, rule.size, rule.size, 3)  # [n, h, w, 3]


def without_first_picture(video: Path, target: Path) -> Path:
    """The key frame that all others hang on is zeros."""
    data = bytearray(video.read_bytes())
    sizes = data.index(b"stsz") + 12
    count, first = struct.unpack(">II", data[sizes : sizes + 8])
    assert count == 20
    place = data.index(b"mdat") + 4
    data[place : place + first] = bytes(first)
    target.write_bytes(data)
    return target


def test_frames_that_hang_on_a_lost_one_are_shown_and_noted(
    make_video: MakeVideo, ffmpeg_run: Callable[..., bytes], tmp_path: Path, rule: PixelRule
) -> None:
    path = without_first_picture(make_video("conceal.mp4", *H264, "-bf", "2"), tmp_path / "damaged.mp4")
    clip = decode_clip(path, frames=16, rule=rule)
    every = every_frame_concealed(ffmpeg_run, path, rule)
    assert 16 <= len(every) < 20
    assert (clip.pixels == every[even_indices(len(every), 16)]).all()
    assert clip.note.startswith(f"container claims 20 frames, 0 decodable, {len(every)} with error concealment: ")


def test_too_few_frames_even_so_are_a_failure(make_video: MakeVideo, tmp_path: Path, rule: PixelRule) -> None:
    whole = make_video("conceal_first.mp4", *H264, "-movflags", "+faststart")
    path = tmp_path / "cut.mp4"
    data = whole.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + (len(data) - data.index(b"mdat")) * 6 // 10])
    with pytest.raises(VideoError, match=r"^container claims 20 frames, (\d+) decodable, \1 with error.*, 16 needed"):
        decode_clip(path, frames=16, rule=rule)
    # What is asked for is there: a clip of fewer frames needs fewer.
    assert "decodable" in decode_clip(path, frames=4, rule=rule).note
    assert decode_clip(path, frames=16, rule=rule, sampling="middle").note


def test_a_short_video_is_whole(make_video: MakeVideo, frame_numbers: Callable, rule: PixelRule) -> None:
    for name in ("five.mp4", "five.mkv", "five.avi", "five.ts"):
        codec = ("-c:v", "mpeg4", "-q:v", "2") if name.endswith("avi") else H264
        clip = decode_clip(make_video(name, *codec, frames=5), frames=16, rule=rule)
        assert frame_numbers(clip.pixels) == even_indices(5, 16)
        assert clip.note == ""


def test_an_edit_list_is_no_damage(
    make_video: MakeVideo, ffmpeg_run: Callable[..., bytes], frame_numbers: Callable, tmp_path: Path, rule: PixelRule
) -> None:
    whole, cut = make_video("edited.mp4", *H264, "-g", "20"), tmp_path / "cut.mp4"
    ffmpeg_run("-ss", "0.72", "-i", whole, "-t", "0.2", "-c", "copy", cut)
    clip = decode_clip(cut, frames=16, rule=rule)
    assert len(set(frame_numbers(clip.pixels))) < 6
    assert "concealment" not in clip.note


@pytest.mark.parametrize("name", ["b.mp4", "b.mkv", "b.avi", "b.ts"])
def test_a_whole_video_is_never_read_with_concealment(
    name: str, make_video: MakeVideo, rule: PixelRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = ("-c:v", "mpeg4", "-q:v", "2") if name.endswith("avi") else H264
    monkeypatch.setattr(video_file, "CONCEAL", {"no_such_option": "1"})
    assert decode_clip(make_video(f"whole_{name}", *codec), frames=16, rule=rule).note == ""
