"""Sliding windows hold the frames of their times, all of them, and no more memory than one window."""

import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.extract.decoding import windows
from mastaf.extract.decoding.windows import Sliding, Windows, sliding
from mastaf.extract.errors import ExtractError, VideoError

H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")  # 20 frames of 0.05 s
PATIENCE_S = 60.0


def read(path: Path, how: Sliding, rule):
    found = Windows(path, how, rule, patience_s=PATIENCE_S)
    return list(found), found


def slow(count, how):
    """First frames of the windows over `count` frames, each looked at."""
    starts = [start for start in range(count) if start % how.hop == 0 and start + how.frames <= count]
    rest = count - how.frames
    return starts + [rest] if starts and rest not in starts else starts


@given(count=st.integers(0, 60), frames=st.integers(1, 9), hop=st.integers(1, 12))
def test_windows_follow_each_other_and_the_last_ends_with_the_video(count, frames, hop):
    how = Sliding(frames, Fraction(4), hop)
    found = Windows(Path("unread"), how, None, patience_s=0)  # pyright: ignore[reportArgumentType]
    found._frames = lambda: iter([np.full((1, 1, 3), n, np.uint8) for n in range(count)])
    given_, starts = list(found), slow(count, how)
    assert [window.start_s * 4 for window in given_] == starts
    for window, start in zip(given_, starts, strict=True):
        assert window.pixels[:, 0, 0, 0].tolist() == list(range(start, start + frames))
        assert window.end_s - window.start_s == pytest.approx(max(frames - 1, 1) / 4)


@given(frames=st.integers(1, 64), window=st.floats(0.04, 3600), stride=st.none() | st.floats(0.04, 3600))
def test_a_window_is_as_long_as_asked_and_strides_are_whole_frames(frames, window, stride):
    how = sliding(frames, window_s=window, stride_s=stride)
    assert how.length_s == pytest.approx(window, rel=0.02)
    assert how.hop >= 1
    assert abs(how.hop / how.rate - (window / 2 if stride is None else stride)) <= 1 / how.rate


def test_frames_are_those_of_their_times(make_video, rule, frame_numbers):
    path = make_video("windows.mp4", *H264)
    # Four frames over 0.3 s: every second one of 20 a second.
    found, _ = read(path, sliding(4, window_s=0.3, stride_s=0.2), rule)
    numbers = [frame_numbers(window.pixels) for window in found]
    assert numbers == [[0, 2, 4, 6], [4, 6, 8, 10], [8, 10, 12, 14], [12, 14, 16, 18]]
    assert [round(window.start_s, 3) for window in found] == [0.0, 0.2, 0.4, 0.6]


def test_a_window_that_is_longer_than_the_video_gives_none(make_video, rule):
    assert read(make_video("windows.mp4", *H264), sliding(4, window_s=5, stride_s=None), rule)[0] == []


def test_a_long_video_takes_the_memory_of_one_window(ffmpeg_run, tmp_path, rule):
    path = tmp_path / "long.mp4"
    ffmpeg_run("-f", "lavfi", "-i", "color=size=64x48:rate=1:duration=1800", *H264, "-preset", "ultrafast", path)
    tracemalloc.start()
    count = sum(1 for _ in Windows(path, sliding(4, window_s=3, stride_s=None), rule, patience_s=PATIENCE_S))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count > 800
    assert peak < 100 * 56 * 56 * 3  # of 1800 frames


@pytest.mark.parametrize(("content", "words"), [(b"", "empty file"), (b"no video at all", "not a video")])
def test_what_is_no_video_is_one_line(content, words, tmp_path, rule):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=words):
        read(path, sliding(4, window_s=1, stride_s=None), rule)
    with pytest.raises(VideoError, match="cannot be opened"):
        read(tmp_path / "nowhere.mp4", sliding(4, window_s=1, stride_s=None), rule)
    with pytest.raises(VideoError, match="neither a file"):
        read(tmp_path, sliding(4, window_s=1, stride_s=None), rule)


def test_a_truncated_video_gives_what_it_has_and_says_so(make_video, tmp_path, rule):
    whole = make_video("long.ts", *H264, "-g", "5", frames=20)
    path = tmp_path / "cut.ts"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    found, windows_ = read(path, sliding(2, window_s=0.1, stride_s=0.1), rule)
    assert 1 <= len(found) < 10
    assert isinstance(windows_.note, str)


def test_a_decoder_that_stands_still_is_ended(monkeypatch, make_video, tmp_path, rule):
    slow_program = tmp_path / "ffmpeg"
    slow_program.write_text("#!/bin/sh\nsleep 60\n")
    slow_program.chmod(0o755)
    monkeypatch.setenv("MASTAF_FFMPEG", str(slow_program))
    with pytest.raises(VideoError, match="took too long"):
        list(Windows(make_video("windows.mp4", *H264), sliding(4, window_s=0.3, stride_s=None), rule, patience_s=0.2))


def test_more_frames_than_are_allowed_are_refused(monkeypatch, make_video, rule):
    monkeypatch.setattr(windows, "MAX_FRAMES", 10)
    with pytest.raises(VideoError, match="longer than 10 frames"):
        read(make_video("windows.mp4", *H264), sliding(4, window_s=0.3, stride_s=None), rule)


@pytest.mark.parametrize("wrong", [{"window_s": 0.0}, {"window_s": 4000.0}, {"window_s": 1.0, "stride_s": 0.001}])
def test_a_window_must_be_a_sensible_time(wrong):
    with pytest.raises(ExtractError, match="must be from"):
        sliding(16, **{"stride_s": None, **wrong})
