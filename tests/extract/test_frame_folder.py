"""Folders of frames as videos."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mastaf.extract.datasets.naming import IMAGE_SUFFIXES
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.frame_folder import list_frames
from mastaf.extract.decoding.pixels import PixelRule, pixel_rule
from mastaf.extract.errors import VideoError

Run = Callable[..., bytes]


@pytest.fixture
def copy(frame_folder: Path, tmp_path: Path) -> Path:
    """The shared folder of frames, f1.png to f20.png, to do things to."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for frame in frame_folder.iterdir():
        (folder / frame.name).write_bytes(frame.read_bytes())
    return folder


def test_frames_come_in_natural_order(frame_folder: Path, frame_numbers: Callable, rule: PixelRule) -> None:
    assert list_frames(frame_folder) == [f"f{k}.png" for k in range(1, 21)]
    clip = decode_clip(frame_folder, frames=20, rule=rule)
    assert frame_numbers(clip.pixels) == list(range(20))
    assert frame_numbers(decode_clip(frame_folder, frames=4, rule=rule).pixels) == [0, 6, 12, 19]
    assert frame_numbers(decode_clip(frame_folder, frames=3, rule=rule, sampling="middle").pixels) == [9] * 3


def test_natural_order_of_odd_names(tmp_path: Path) -> None:
    names = ["2.jpg", "10.jpg", "img1a.png", "img01b.png", "img2.PNG", "img010.jpeg", "Img3.png", "x-1.tiff"]
    for name in names:
        (tmp_path / name).touch()
    expected = ["2.jpg", "10.jpg", "img1a.png", "img01b.png", "img2.PNG", "Img3.png", "img010.jpeg", "x-1.tiff"]
    assert list_frames(tmp_path) == expected


def test_stray_files_are_ignored(copy: Path, frame_numbers: Callable, rule: PixelRule) -> None:
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._f1.png", ".hidden.jpg", "f3.png.part"):
        (copy / name).write_text("stray")
    (copy / "masks").mkdir()
    assert frame_numbers(decode_clip(copy, frames=20, rule=rule).pixels) == list(range(20))


def test_fewer_frames_than_asked_for_repeat(copy: Path, frame_numbers: Callable, rule: PixelRule) -> None:
    for k in range(4, 21):
        (copy / f"f{k}.png").unlink()
    assert frame_numbers(decode_clip(copy, frames=8, rule=rule).pixels) == [0, 0, 0, 0, 1, 1, 1, 2]


def test_kinds_and_sizes_may_differ(copy: Path, ffmpeg_run: Run, frame_numbers: Callable, rule: PixelRule) -> None:
    kinds = [".jpg", ".bmp", ".webp", ".tif", ".ppm", ".png"]
    for k, kind in enumerate(kinds, start=1):
        frame = copy / f"f{k}.png"
        change = ("-vf", f"scale={64 + 8 * k}:{48 + 6 * k}", "-pix_fmt", "yuvj444p") if kind == ".jpg" else ()
        ffmpeg_run("-i", frame, *change, copy.parent / f"f{k}{kind}")
        frame.unlink()
        (copy.parent / f"f{k}{kind}").rename(copy / f"f{k}{kind}")
    assert frame_numbers(decode_clip(copy, frames=20, rule=rule).pixels) == list(range(20))


def test_short_rule_looks_at_each_size(tmp_path: Path, ffmpeg_run: Run, frame_folder: Path) -> None:
    for name, size in (("a.png", "128:48"), ("b.png", "48:128")):
        ffmpeg_run("-i", frame_folder / "f9.png", "-vf", f"scale={size}", tmp_path / name)
    pixels = decode_clip(tmp_path, frames=2, rule=pixel_rule(48, resize="short", resize_size=48)).pixels
    for frame, corner in ((pixels[0], np.s_[24:, :]), (pixels[1], np.s_[8:, :])):
        assert np.ptp(frame[corner].astype(int)) <= 12  # the even lower part, unless the frame was squashed


def test_content_decides_not_the_name(copy: Path, frame_numbers: Callable, rule: PixelRule) -> None:
    for k in (3, 11):
        (copy / f"f{k}.png").rename(copy / f"f{k}.jpg")
    assert frame_numbers(decode_clip(copy, frames=20, rule=rule).pixels) == list(range(20))


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_obeyed(
    orientation: int, turns: int, tmp_path: Path, ffmpeg_run: Run, frame_folder: Path
) -> None:
    for folder in ("plain", "turned"):
        (tmp_path / folder).mkdir()
    rule = pixel_rule(32, resize_size=32)
    for k in (1, 2):
        plain = tmp_path / "plain" / f"{k}.jpg"
        ffmpeg_run("-i", frame_folder / f"f{k}.png", "-q:v", "2", plain)
        entry = struct.pack(">HHIHH", 0x112, 3, 1, orientation if k == 1 else 1, 0)
        exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
        data = plain.read_bytes()
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        (tmp_path / "turned" / f"{k}.jpg").write_bytes(data[:2] + segment + data[2:])
    plain, turned = (decode_clip(tmp_path / name, frames=2, rule=rule).pixels for name in ("plain", "turned"))
    assert (turned[1] == plain[1]).all()
    assert np.abs(np.rot90(plain[0], turns).astype(int) - turned[0]).mean() < 1


def spoil(data: bytes, how: str) -> bytes:
    return {
        "text": b"hello, I am no image\n",
        "empty": b"",
        "cut": data[: len(data) // 2],
        "head": data[:20],
        "flipped": data[:60] + bytes(byte ^ 0x55 for byte in data[60:160]) + data[160:],
        "unknown": b"GIF89a" + data,
    }[how]


# A JPEG has no checksum, so damage inside its picture cannot be told.
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("png", "flipped"),
        *((kind, how) for kind in ("png", "jpg") for how in ("text", "empty", "cut", "head", "unknown")),
    ],
)
def test_one_unreadable_image_is_named(how: str, kind: str, copy: Path, ffmpeg_run: Run, rule: PixelRule) -> None:
    bad = copy / f"f7.{kind}"
    if kind == "jpg":
        ffmpeg_run("-i", copy / "f7.png", bad)
        (copy / "f7.png").unlink()
    bad.write_bytes(spoil(bad.read_bytes(), how))
    with pytest.raises(VideoError, match=rf"frame 'f7\.{kind}' is") as caught:
        decode_clip(copy, frames=20, rule=rule)
    assert "\n" not in str(caught.value)
    # Only chosen frames are read.
    assert decode_clip(copy, frames=2, rule=rule).note == ""


def test_two_images_in_one_file_do_not_shift_the_others(copy: Path, frame_numbers: Callable, rule: PixelRule) -> None:
    (copy / "f5.png").write_bytes((copy / "f5.png").read_bytes() + (copy / "f9.png").read_bytes())
    assert frame_numbers(decode_clip(copy, frames=20, rule=rule).pixels) == list(range(20))


def test_folder_without_frames(tmp_path: Path, rule: PixelRule) -> None:
    (tmp_path / "notes.txt").write_text("no frames here")
    with pytest.raises(VideoError, match="without frames"):
        decode_clip(tmp_path, frames=4, rule=rule)


def test_links_stay_in_the_folder(copy: Path, frame_numbers: Callable, rule: PixelRule) -> None:
    (copy / "f21.png").symlink_to("f20.png")
    assert frame_numbers(decode_clip(copy, frames=21, rule=rule).pixels) == [*range(20), 19]
    (copy.parent / "outside.png").write_bytes((copy / "f1.png").read_bytes())
    (copy / "f21.png").unlink()
    (copy / "f21.png").symlink_to(copy.parent / "outside.png")
    with pytest.raises(VideoError, match=r"'f21\.png' is a link that leads out of "):
        decode_clip(copy, frames=21, rule=rule)


def test_frames_that_are_no_files(copy: Path, rule: PixelRule) -> None:
    os.mkfifo(copy / "f21.png")
    with pytest.raises(VideoError, match=r"'f21\.png' is not a file"):
        decode_clip(copy, frames=21, rule=rule)
    (copy / "f21.png").unlink()
    (copy / "f21.png").mkdir()
    with pytest.raises(VideoError, match=r"'f21\.png' is not a file"):
        decode_clip(copy, frames=21, rule=rule)


@pytest.mark.parametrize("extension", IMAGE_SUFFIXES)
def test_declared_size_beyond_reason(extension: str, tmp_path: Path, frame_folder: Path, rule: PixelRule) -> None:
    """A PNG of 9000 x 9000 pixels in its header, under any name."""
    import zlib

    header = b"IHDR" + struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    body = (frame_folder / "f1.png").read_bytes()
    bomb = body[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + body[33:]
    (tmp_path / f"bomb{extension}").write_bytes(bomb)
    with pytest.raises(VideoError, match="more pixels than are allowed"):
        decode_clip(tmp_path, frames=4, rule=rule)


def test_frames_named_in_two_cases_are_in_one_order(tmp_path: Path) -> None:
    for name in ("IMG_10.png", "img_2.png", "IMG_1.png"):
        (tmp_path / name).touch()
    assert list_frames(tmp_path) == ["IMG_1.png", "img_2.png", "IMG_10.png"]
