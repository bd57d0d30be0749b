"""The chosen frames of a video file are the ones that decoding everything and indexing gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mastaf.extract.decoding import video_file
from mastaf.extract.decoding.container import claimed_frames
from mastaf.extract.decoding.decode import Clip, decode_clip
from mastaf.extract.decoding.image_stream import as_avi
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.decoding.sampling import even_indices
from mastaf.extract.errors import VideoError

H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")
ALTREF = ("-auto-alt-ref", "1", "-lag-in-frames", "12", "-b:v", "400k", "-deadline", "good", "-cpu-used", "4")
KINDS: dict[str, tuple[str, ...]] = {
    "b_frames.mp4": (*H264, "-bf", "3"),
    "open_gop.ts": (*H264, "-x264-params", "open-gop=1:keyint=7:bframes=3"),
    "open_gop.mkv": (*H264, "-x264-params", "open-gop=1:keyint=7:bframes=3"),
    "interlaced.ts": (*H264, "-x264-params", "interlaced=1"),
    "fragments.mp4": (*H264, "-g", "6", "-movflags", "+frag_keyframe+empty_moov"),
    "irregular.mp4": (*H264, "-vf", "setpts=(N+floor(N/4)*5)/20/TB", "-fps_mode", "passthrough"),
    "ten_bit.mp4": ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p10le"),
    "hevc.mp4": ("-c:v", "libx265", "-crf", "12", "-x265-params", "log-level=error", "-pix_fmt", "yuv420p"),
    "vp8.webm": ("-c:v", "libvpx", *ALTREF),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-row-mt", "0", *ALTREF),
    "vp9_live.mkv": ("-c:v", "libvpx-vp9", *ALTREF, "-f", "webm", "-live", "1"),
    "av1.mkv": ("-c:v", "libaom-av1", "-cpu-used", "8", "-lag-in-frames", "12", "-crf", "20"),
    "mpeg4.avi": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),
    "xvid.avi": ("-c:v", "libxvid", "-q:v", "2", "-bf", "2"),
    "gaps.avi": ("-c:v", "mpeg4", "-q:v", "2", "-vf", "setpts=2*N", "-fps_mode", "passthrough"),
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "2"),
    "ffv1.mkv": ("-c:v", "ffv1", "-pix_fmt", "bgr0"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-vf", "setpts=N/25/TB", "-r", "25"),
    "flash.flv": ("-c:v", "flv1", "-q:v", "2"),
    "windows.wmv": ("-c:v", "wmv2", "-q:v", "2"),
    "theora.ogv": ("-c:v", "libtheora", "-q:v", "10"),
    "animation.gif": (),
    "raw.h264": H264,
}
MakeVideo = Callable[..., Path]
EveryFrame = Callable[[Path, PixelRule], np.ndarray]
FrameNumbers = Callable[[np.ndarray], list[int]]


def check(path: Path, clip: Clip, every: np.ndarray, sampled: int) -> None:
    assert clip.pixels.shape == (sampled, *every.shape[1:])
    assert (clip.pixels == every[even_indices(len(every), sampled)]).all(), path.name


@pytest.mark.parametrize("name", KINDS)
def test_same_frames_as_decoding_everything(
    name: str, make_video: MakeVideo, every_frame: EveryFrame, frame_numbers: FrameNumbers, rule: PixelRule
) -> None:
    path = make_video(name, *KINDS[name])
    every = every_frame(path, rule)
    for sampled in (6, 33):
        clip = decode_clip(path, frames=sampled, rule=rule)
        check(path, clip, every, sampled)
    if name != "xvid.avi":  # its encoder loses two frames
        assert len(every) == 20
        assert not clip.note
        assert frame_numbers(every) == list(range(20))


@pytest.mark.parametrize(("sampling", "expected"), [("even", [0, 6, 12, 19]), ("middle", [9, 9, 9, 9])])
def test_sampling_rules(
    sampling: str, expected: list[int], make_video: MakeVideo, frame_numbers: FrameNumbers, rule: PixelRule
) -> None:
    clip = decode_clip(make_video("b_frames.mp4", *KINDS["b_frames.mp4"]), frames=4, rule=rule, sampling=sampling)
    assert frame_numbers(clip.pixels) == expected


def test_shuffled_sampling_depends_on_the_key(
    make_video: MakeVideo, frame_numbers: FrameNumbers, rule: PixelRule
) -> None:
    path = make_video("b_frames.mp4", *KINDS["b_frames.mp4"])
    orders = [
        frame_numbers(decode_clip(path, frames=8, rule=rule, sampling="shuffled", key=key).pixels) for key in "aab"
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == even_indices(20, 8)


def test_many_frames_can_be_asked_for(make_video: MakeVideo, every_frame: EveryFrame, rule: PixelRule) -> None:
    path = make_video("long.mp4", *H264, "-vf", "loop=loop=-1:size=20,trim=end_frame=600")
    every = every_frame(path, rule)
    assert len(every) == 600
    check(path, decode_clip(path, frames=400, rule=rule), every, 400)


def test_one_frame_video_repeats_it(make_video: MakeVideo, frame_numbers: FrameNumbers, rule: PixelRule) -> None:
    clip = decode_clip(make_video("one.mp4", *H264, frames=1), frames=5, rule=rule)
    assert frame_numbers(clip.pixels) == [0] * 5


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_is_obeyed(
    degrees: int, make_video: MakeVideo, ffmpeg_run: Callable[..., bytes], tmp_path: Path, rule: PixelRule
) -> None:
    upright = make_video("square.mp4", *H264, height=64)
    rotated = tmp_path / "rotated.mp4"
    ffmpeg_run("-display_rotation", str(degrees), "-i", upright, "-c", "copy", rotated)
    plain = decode_clip(upright, frames=4, rule=rule).pixels.astype(int)
    turned = decode_clip(rotated, frames=4, rule=rule).pixels.astype(int)
    assert np.abs(np.rot90(plain, degrees // 90, axes=(1, 2)) - turned).max() <= 2
    assert np.abs(plain - turned).mean() > 5


def test_edit_list_hides_frames(
    make_video: MakeVideo,
    ffmpeg_run: Callable[..., bytes],
    every_frame: EveryFrame,
    frame_numbers: FrameNumbers,
    tmp_path: Path,
    rule: PixelRule,
) -> None:
    whole = make_video("short_gops.mp4", *H264, "-g", "6", "-bf", "2")
    cut = tmp_path / "cut.mp4"
    ffmpeg_run("-ss", "0.42", "-i", whole, "-t", "0.4", "-c", "copy", cut)
    every = every_frame(cut, rule)
    assert (claimed_frames(cut) or 0) > len(every) > 5
    check(cut, decode_clip(cut, frames=7, rule=rule), every, 7)
    assert frame_numbers(every)[0] == 9  # the first frame at or after 0.42 s of a 20 Hz video


def test_picture_size_that_changes_in_mid_stream(
    make_video: MakeVideo, frame_numbers: FrameNumbers, tmp_path: Path, rule: PixelRule
) -> None:
    parts = [make_video(f"part{width}.ts", *H264, width=width, height=48) for width in (64, 96)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    clip = decode_clip(joined, frames=40, rule=rule)
    assert frame_numbers(clip.pixels) == [*range(20), *range(20)]
    clip = decode_clip(joined, frames=5, rule=rule)
    assert frame_numbers(clip.pixels) == [0, 9, 19, 9, 19]  # 0, 9, 19, 29, 39 of the whole


def test_packed_b_frames(
    make_video: MakeVideo, every_frame: EveryFrame, frame_numbers: FrameNumbers, tmp_path: Path, rule: PixelRule
) -> None:
    """DivX put a P and the B before it into one AVI chunk, and an empty one after it."""
    packets = avi_packets(
        make_video("packable.avi", "-c:v", "mpeg4", "-q:v", "2", "-bf", "1", "-sc_threshold", "1000000000")
    )
    first = packets[0].replace(b"\0\0\1\xb6", b"\0\0\1\xb2DivX503b1393p\0\0\1\xb6", 1)
    packed, waiting = [first], packets[1:]
    while waiting:
        # Coded order P2 B1 P4 B3: vop_coding_type is 0, 1, 2 for I, P, B in the two bits after the start code.
        pair = len(waiting) > 1 and vop_type(waiting[0]) == 1 and vop_type(waiting[1]) == 2
        packed += [waiting[0] + waiting[1], b"\0\0\1\xb6\x54\x7f"] if pair else [waiting[0]]
        waiting = waiting[2 if pair else 1 :]
    assert sum(len(packet) < 8 for packet in packed) > 5
    path = tmp_path / "packed.avi"
    path.write_bytes(as_avi(packed).replace(b"IMGS", b"DX50"))
    every = every_frame(path, rule)
    assert frame_numbers(every) == list(range(20))
    check(path, decode_clip(path, frames=9, rule=rule), every, 9)


def avi_packets(path: Path) -> list[bytes]:
    data = path.read_bytes()
    place, packets = data.index(b"movi") + 4, []
    while data[place : place + 4] == b"00dc":
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        packets.append(data[place + 8 : place + 8 + size])
        place += 8 + size + size % 2
    return packets


def vop_type(packet: bytes) -> int:
    return packet[packet.index(b"\0\0\1\xb6") + 4] >> 6


@pytest.mark.parametrize("name", ["b_frames.mp4", "open_gop.mkv", "mpeg4.avi", "vp9.webm", "open_gop.ts"])
def test_truncated_video_gives_its_frames_and_says_so(
    name: str, make_video: MakeVideo, every_frame: EveryFrame, tmp_path: Path, rule: PixelRule
) -> None:
    container = name.rpartition(".")[2]
    whole = make_video(f"whole_{name}", *KINDS[name], *(("-movflags", "+faststart") if container == "mp4" else ()))
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    every = every_frame(path, rule)
    assert 0 < len(every) < 20
    clip = decode_clip(path, frames=4, rule=rule)
    check(path, clip, every, 4)
    if container in ("mp4", "avi"):
        assert clip.note.startswith(f"container claims 20 frames, {len(every)} decodable")
    if container != "ts":  # a transport stream has no end that could be missing
        assert clip.note
    assert "\n" not in clip.note


@pytest.mark.parametrize("lie", [1, 7, 19, 21, 25, 4_000])
def test_a_container_that_lies_costs_time_only(
    lie: int,
    make_video: MakeVideo,
    every_frame: EveryFrame,
    tmp_path: Path,
    rule: PixelRule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = make_video("b_frames.mp4", *KINDS["b_frames.mp4"])
    monkeypatch.setattr(video_file, "claimed_frames", lambda _: lie)
    clip = decode_clip(path, frames=6, rule=rule)
    every = every_frame(path, rule)
    check(path, clip, every, 6)
    middle = decode_clip(path, frames=1, rule=rule, sampling="middle")  # does not reach the end by itself
    assert (middle.pixels == every[9]).all()
    assert clip.note == middle.note == (f"container claims {lie} frames, 20 decodable" if lie > 20 else "")


@pytest.mark.parametrize(
    "name", ["b_frames.mp4", "open_gop.mkv", "vp8.webm", "vp9.webm", "mpeg4.avi", "gaps.avi", "mjpeg.avi"]
)
def test_claims_of_containers(name: str, make_video: MakeVideo) -> None:
    assert claimed_frames(make_video(name, *KINDS[name])) == 20


@pytest.mark.parametrize("name", ["fragments.mp4", "open_gop.ts", "raw.h264"])
def test_containers_without_a_claim(name: str, make_video: MakeVideo) -> None:
    assert claimed_frames(make_video(name, *KINDS[name])) is None


def test_first_video_stream_is_read_beside_sound_and_cover(
    make_video: MakeVideo,
    ffmpeg_run: Callable[..., bytes],
    every_frame: EveryFrame,
    frame_folder: Path,
    tmp_path: Path,
    rule: PixelRule,
) -> None:
    video = make_video("b_frames.mp4", *KINDS["b_frames.mp4"])
    path = tmp_path / "film.mkv"
    sound = ("-f", "lavfi", "-i", "sine=d=1")
    order = ("-map", "1", "-map", "0", "-c:v", "copy", "-c:a", "libopus")
    ffmpeg_run(
        "-i", video, *sound, *order, "-attach", frame_folder / "f3.png", "-metadata:s:t", "mimetype=image/png", path
    )
    assert claimed_frames(path) == 20
    check(path, decode_clip(path, frames=6, rule=rule), every_frame(video, rule), 6)


@pytest.mark.parametrize("name", ["film.mp4", "film.mov"])
def test_sound_may_come_first(
    name: str,
    make_video: MakeVideo,
    ffmpeg_run: Callable[..., bytes],
    every_frame: EveryFrame,
    tmp_path: Path,
    rule: PixelRule,
) -> None:
    video = make_video("b_frames.mp4", *KINDS["b_frames.mp4"])
    sound = ("-f", "lavfi", "-i", "sine=d=1", "-map", "1", "-map", "0", "-c:v", "copy", "-c:a", "mp3")
    ffmpeg_run("-i", video, *sound, tmp_path / name)
    assert claimed_frames(tmp_path / name) == 20
    check(tmp_path / name, decode_clip(tmp_path / name, frames=6, rule=rule), every_frame(video, rule), 6)


def test_too_many_frames(make_video: MakeVideo, rule: PixelRule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_file, "MAX_FRAMES", 12)
    with pytest.raises(VideoError, match="claims 20 frames, 12 are allowed"):
        decode_clip(make_video("b_frames.mp4", *KINDS["b_frames.mp4"]), frames=4, rule=rule)


def test_a_clip_checks_itself_and_shows_its_shape() -> None:
    assert repr(Clip(np.zeros((1, 2, 4, 4, 3), np.uint8), "x")) == "Clip(views=uint8 [1, 2, 4, 4, 3], note='x')"
    with pytest.raises(ValueError, match="must be uint8"):
        Clip(np.zeros((1, 2, 4, 4, 3), np.float32), "")
