"""Files from strangers: each is one clear VideoError or a right clip, never a hang, a crash or another file read."""

import os
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mastaf.cache import console
from mastaf.extract.cli import command
from mastaf.extract.decoding.container import claimed_frames
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.errors import ExtractError, VideoError

MakeVideo = Callable[..., Path]
H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", "-bf", "2")
ODD_NAMES = [
    "-i.mp4",
    "-version",
    "clip%d%03d%s.mp4",
    "a:b.mp4",
    "file:x.mp4",
    "pipe:0.mp4",
    "http:example.org.mp4",
    "concat:a|b.mp4",
    "!#&();@[]+~$`^{}=,.mp4",
    "quote ' \" \\ .mp4",
    "new\nline\ttab.mp4",
    "snowman ☃ été 視頻.mp4",
    "caf\udce9.mp4",  # the byte E9 alone, which is not UTF-8
    "*?.mp4",
]


@pytest.fixture
def video(make_video: MakeVideo) -> Path:
    return make_video("hostile.mp4", *H264)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_works(name: str, video: Path, frame_numbers: Callable, tmp_path: Path, rule: PixelRule) -> None:
    path = tmp_path / name
    path.write_bytes(video.read_bytes())
    assert frame_numbers(decode_clip(path, frames=4, rule=rule).pixels) == [0, 6, 12, 19]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_works_without_a_claim(name: str, make_video: MakeVideo, tmp_path: Path, rule: PixelRule) -> None:
    """The counting pass meets the name too."""
    path = tmp_path / name
    path.write_bytes(make_video("hostile.ts", *H264).read_bytes())
    assert decode_clip(path, frames=4, rule=rule).pixels.any()


def test_odd_names_of_frames_and_folders(
    frame_folder: Path, frame_numbers: Callable, tmp_path: Path, rule: PixelRule
) -> None:
    folder = tmp_path / "-i %d\n☃ \udce9"
    folder.mkdir()
    for k, name in enumerate(ODD_NAMES[:12]):
        (folder / f"{k}{name}.png").write_bytes((frame_folder / f"f{k + 1}.png").read_bytes())
    assert frame_numbers(decode_clip(folder, frames=12, rule=rule).pixels) == list(range(12))


def test_odd_names_in_a_whole_run(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also as names of classes; names that are not UTF-8 are left out of a data set, and counted."""
    for name in ODD_NAMES:
        for place in (tmp_path / "videos/walk" / name, tmp_path / "videos" / name / "clip?#:.mp4"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(video.read_bytes())
    line = ("--backbone", "r3d-tiny", "--weights", "random", "--devices", "cpu", "--size", "32", "--frames", "4")
    where = ("--dataset", "folder", "--root", str(tmp_path / "videos"), "--out", str(tmp_path / "s.zarr"))
    with pytest.raises(SystemExit) as leaving:
        console.run(command, [*line, *where])
    out = capsys.readouterr().out
    assert leaving.value.code == 0, out
    done = 2 * (len(ODD_NAMES) - 1) - 1  # `-version` ends like no video
    assert f"done: {done} videos extracted" in out
    assert "ignored names that are not UTF-8: 2" in out


def test_relative_path(video: Path, tmp_path: Path, rule: PixelRule, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "-y").write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert len(decode_clip(Path("-y"), frames=4, rule=rule).pixels) == 4


def write_bad(kind: str, path: Path, video: Path, ffmpeg_run: Callable[..., bytes]) -> None:
    data = video.read_bytes()
    neighbour = path.with_name("neighbour.mp4")
    neighbour.write_bytes(data)
    texts = {
        "text": "this is no video\n" * 50,
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{neighbour.name}\n#EXT-X-ENDLIST\n",
        "hls_absolute": f"#EXTM3U\n#EXTINF:2,\nfile://{neighbour}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {neighbour.name}\n",
        "dash": f"<?xml version='1.0'?><MPD profiles='urn:mpeg:dash:profile:isoff-live:2011'>{neighbour.name}</MPD>",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "subtitles": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
        "svg": '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>',
    }
    if kind in texts:
        path.write_text(texts[kind])
    elif kind == "empty":
        path.touch()
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("video.mp4", data)
    elif kind == "no_moov":
        path.write_bytes(data[: data.index(b"moov") - 4])
    elif kind == "only_moov":
        path.write_bytes(data[: data.index(b"ftyp") + 28] + data[data.index(b"moov") - 4 :])
    elif kind == "noise":
        path.write_bytes(random.Random(0).randbytes(30_000))
    elif kind == "zeros":
        path.write_bytes(bytes(30_000))
    else:
        ffmpeg_run("-f", "lavfi", "-i", "sine=d=1", "-f", {"audio": "mp4", "wav": "wav", "mp3": "mp3"}[kind], path)


LISTS = ("hls", "hls_absolute", "concat", "dash", "sdp", "subtitles", "svg")
BAD = {
    **dict.fromkeys(("text", "zip", "noise", "zeros"), "not a video that ffmpeg can read: "),
    **dict.fromkeys(LISTS, "not a (video|format) that "),
    **dict.fromkeys(("audio", "wav", "mp3"), "^no video stream$"),
    "empty": "^empty file$",
    "no_moov": "not a video that ffmpeg can read: moov atom not found",
    "only_moov": "no frame could be decoded|not a video that ffmpeg can read",
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("extension", ["mp4", "avi", "m3u8"])
def test_what_is_no_video_says_why(
    kind: str, extension: str, video: Path, ffmpeg_run: Callable[..., bytes], tmp_path: Path, rule: PixelRule
) -> None:
    path = tmp_path / f"bad.{extension}"
    write_bad(kind, path, video, ffmpeg_run)
    with pytest.raises(VideoError, match=BAD[kind]) as caught:
        decode_clip(path, frames=4, rule=rule, timeout_s=30)
    reason = str(caught.value)
    assert "\n" not in reason
    assert "0x" not in reason
    assert str(tmp_path) not in reason


def test_a_song_with_a_cover_is_no_video(
    ffmpeg_run: Callable[..., bytes], frame_folder: Path, tmp_path: Path, rule: PixelRule
) -> None:
    song = tmp_path / "song.mp3"
    cover = ("-i", frame_folder / "f3.png", "-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    ffmpeg_run("-f", "lavfi", "-i", "sine=d=1", *cover, song)
    with pytest.raises(VideoError, match=r"^no video stream$"):
        decode_clip(song, frames=4, rule=rule)


def test_paths_that_are_no_files(tmp_path: Path, rule: PixelRule) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "pipe.mp4", Path("/dev/zero")):
        with pytest.raises(VideoError, match="neither a file nor a folder"):
            decode_clip(path, frames=4, rule=rule)
    for path in (tmp_path / "missing.mp4", tmp_path / "broken.mp4"):
        with pytest.raises(VideoError, match="No such file"):
            decode_clip(path, frames=4, rule=rule)


def test_huge_declared_dimensions(make_video: MakeVideo, tmp_path: Path, rule: PixelRule) -> None:
    data = bytearray(make_video("dimensions.ivf", "-c:v", "libvpx", "-b:v", "200k").read_bytes())
    start = data.index(b"\x9d\x01\x2a") + 3  # a VP8 key frame: two sizes of 14 bits
    data[start : start + 4] = (9000).to_bytes(2, "little") * 2
    path = tmp_path / "huge.ivf"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="more pixels than are allowed"):
        decode_clip(path, frames=4, rule=rule)


def test_zero_frames_a_second(make_video: MakeVideo, frame_numbers: Callable, tmp_path: Path, rule: PixelRule) -> None:
    data = bytearray(make_video("rate.avi", "-c:v", "mpeg4", "-q:v", "2").read_bytes())
    rate = data.index(b"vids") + 20
    data[rate : rate + 8] = bytes(8)
    (tmp_path / "zero.avi").write_bytes(data)
    assert frame_numbers(decode_clip(tmp_path / "zero.avi", frames=4, rule=rule).pixels) == [0, 6, 12, 19]


@pytest.mark.parametrize("name", ["damage.mp4", "damage.mkv", "damage.avi", "damage.ts"])
def test_random_damage_costs_one_video_at_most(
    name: str, make_video: MakeVideo, tmp_path: Path, rule: PixelRule
) -> None:
    codec = ("-c:v", "mpeg4", "-q:v", "2") if name.endswith("avi") else H264
    data = make_video(name, *codec).read_bytes()
    draw = random.Random(name)
    for _ in range(12):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 10, 100])):
            damaged[draw.randrange(len(data))] = draw.randrange(256)
        if draw.random() < 0.4:
            del damaged[draw.randrange(40, len(data)) :]
        path = tmp_path / name
        path.write_bytes(damaged)
        try:
            clip = decode_clip(path, frames=4, rule=rule, timeout_s=30)
        except VideoError as error:
            said = str(error)
        else:
            said = clip.note
            assert clip.pixels.shape == (4, 56, 56, 3)
        assert "\n" not in said


@pytest.mark.parametrize("name", ["header.mp4", "header.mkv", "header.avi"])
def test_reading_a_damaged_header_ends(name: str, make_video: MakeVideo, tmp_path: Path) -> None:
    codec = ("-c:v", "mpeg4", "-q:v", "2") if name.endswith("avi") else H264
    data = make_video(name, *codec).read_bytes()
    draw = random.Random(name)
    path = tmp_path / name
    started = time.monotonic()
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(draw.choice([1, 10, 1000])):
            damaged[draw.randrange(len(data))] = draw.choice([0, 1, 0xFF, draw.randrange(256)])
        path.write_bytes(damaged[: draw.randrange(len(data))])
        claim = claimed_frames(path)
        assert claim is None or 0 < claim < 1 << 32
    assert time.monotonic() - started < 60


def test_a_crash_is_one_failed_video(
    tmp_path: Path, video: Path, rule: PixelRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nkill -SEGV $$\n")
    fake.chmod(0o755)
    monkeypatch.setenv("MASTAF_FFMPEG", str(fake))
    with pytest.raises(VideoError, match="crashed \\(signal 11\\)"):
        decode_clip(video, frames=4, rule=rule)
    fake.write_text("#!/bin/sh\nsleep 4323.5\n")
    with pytest.raises(VideoError, match="took too long"):
        decode_clip(video, frames=4, rule=rule, timeout_s=0.5)
    fake.write_text("#!/bin/sh\nprintf 12345\n")
    with pytest.raises(VideoError, match="in the middle of a frame"):
        decode_clip(video, frames=4, rule=rule)


def test_ffmpeg_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MASTAF_FFMPEG", raising=False)
    bundled = ffmpeg_exe()
    assert Path(bundled).is_file()
    link = tmp_path / "my ffmpeg"
    link.symlink_to(bundled)
    monkeypatch.setenv("MASTAF_FFMPEG", str(link))
    assert ffmpeg_exe() == str(link)
    monkeypatch.setenv("MASTAF_FFMPEG", str(tmp_path / "missing"))
    with pytest.raises(ExtractError, match="must be an executable file"):
        ffmpeg_exe()


def test_no_report_is_written(video: Path, rule: PixelRule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFREPORT", f"file={tmp_path}/report.log")
    monkeypatch.chdir(tmp_path)
    decode_clip(video, frames=4, rule=rule)
    assert not list(tmp_path.iterdir())
