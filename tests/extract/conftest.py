"""Fixtures that render small videos with ffmpeg, once a session.

ffmpeg_run(*arguments, stdin=b"") -> bytes       run the project's ffmpeg, fail the test when it fails; its output
numbered(n, height=48, width=64) -> uint8 array  n RGB frames; `frame_numbers` reads each one's number back
frame_numbers(pixels) -> list[int]               the numbers of frames, after scaling, cropping and lossy coding
make_video(name, *codec_arguments, frames=20)    a file of numbered frames, made on first use; the name's ending
                                                 chooses the container. Never change it: it is shared
frame_folder                                     a folder of 20 numbered frames, f1.png to f20.png. Shared too
every_frame(path, rule) -> uint8 [n, s, s, 3]    all frames of a video through the rule: the slow, obvious decoder
rule                                             a small PixelRule: 64 x 64, centre crop 56
tiny_backbone(gain=1.0, weights="a" * 64)        a Backbone of one convolution and a pooling, clips of 4 x 8 x 8
tiny_videos(count=23)                            a VideoSet without files, its classes taking turns in train, val, test
tiny_decoder                                     stands in for the pipeline's decoder: noise by key. `.calls` are the
                                                 keys asked for, `.broken` key -> reason, `.clip(key)` the pixels
"""

import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.index import VideoIndex
from mastaf.extract import pipeline
from mastaf.extract.backbones.base import Backbone, StagedNet
from mastaf.extract.decode import Clip
from mastaf.extract.errors import VideoError
from mastaf.extract.ffmpeg import ffmpeg_exe
from mastaf.extract.pixels import PixelRule, pixel_rule
from mastaf.extract.videos import VideoSet

_DARKEST, _STEP = 16, 10  # the grey level of frame k is _DARKEST + k * _STEP


def _ffmpeg_run(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    command = [ffmpeg_exe(), "-v", "error", "-hide_banner", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def _numbered(n: int, height: int = 48, width: int = 64) -> np.ndarray:
    frames = np.empty((n, height, width, 3), np.uint8)
    columns = np.arange(width)
    for k in range(n):
        frames[k] = _DARKEST + k * _STEP
        # Something that moves and is no flat grey, in the upper third; the lower half tells the number.
        frames[k, : height // 3, :, 0] = (columns * 7 + k * 11) % 256
        frames[k, : height // 3, :, 1] = (columns * 3 - k * 5) % 256
    return frames


def _frame_numbers(pixels: np.ndarray) -> list[int]:
    grey = pixels[:, pixels.shape[1] // 2 :].mean(axis=(1, 2, 3))  # [n]
    numbers = (grey - _DARKEST) / _STEP
    assert np.abs(numbers - numbers.round()).max(initial=0) < 0.35, f"not numbered frames: {numbers}"
    return [int(number) for number in numbers.round()]


@pytest.fixture(scope="session")
def ffmpeg_run() -> Callable[..., bytes]:
    return _ffmpeg_run


@pytest.fixture(scope="session")
def numbered() -> Callable[..., np.ndarray]:
    return _numbered


@pytest.fixture(scope="session")
def frame_numbers() -> Callable[[np.ndarray], list[int]]:
    return _frame_numbers


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str, *codec: str, frames: int = 20, height: int = 48, width: int = 64) -> Path:
        path = folder / name
        if not path.exists():
            raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "20", "-i", "pipe:0")
            _ffmpeg_run(*raw, *codec, path, stdin=_numbered(frames, height, width).tobytes())
        return path

    return make


@pytest.fixture(scope="session")
def frame_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-i", "pipe:0")
    _ffmpeg_run(*raw, folder / "f%d.png", stdin=_numbered(20).tobytes())
    return folder


@pytest.fixture(scope="session")
def every_frame() -> Callable[[Path, PixelRule], np.ndarray]:
    def decode(path: Path, rule: PixelRule) -> np.ndarray:
        side, corner = rule.resize_size, (rule.resize_size - rule.size) // 2
        graph = f"scale={side}:{side}:flags={rule.scaler},format=rgb24,crop={rule.size}:{rule.size}:{corner}:{corner}"
        passthrough = ("-vf", graph, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1")
        # One thread: with more, ffmpeg's Theora decoder gives other pixels now and then.
        raw = _ffmpeg_run("-max_error_rate", "1", "-threads", "1", "-i", path, "-map", "0:V:0", *passthrough)
        return np.frombuffer(raw, np.uint8).reshape(-1, rule.size, rule.size, 3)

    return decode


@pytest.fixture(scope="session")
def rule() -> PixelRule:
    return pixel_rule(56, resize_size=64)


class _TinyNet(StagedNet):
    def __init__(self, gain: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv3d(3, 3, 3, padding=1, bias=False)
        self.conv.weight.data = gain * torch.randn(self.conv.weight.shape, generator=generator)
        self.pool = torch.nn.AdaptiveAvgPool3d(2)
        self.eval()

    def stages(self) -> dict[str, torch.nn.Module]:
        return {"conv": self.conv, "pool": self.pool}


class _TinyDecoder:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken: dict[str, str] = {}
        self._lock = threading.Lock()

    def clip(self, key: str) -> np.ndarray:
        random = np.random.default_rng([ord(letter) for letter in key])
        return random.integers(0, 256, (4, 8, 8, 3), np.uint8)

    def __call__(self, path: Path, *, key: str, views: Sequence[str], **how: Any) -> Clip:
        with self._lock:
            self.calls.append(key)
        if key in self.broken:
            raise VideoError(self.broken[key])
        plain = self.clip(key)
        known = {"plain": plain, "flip": plain[:, :, ::-1]}
        return Clip(np.stack([known[view] for view in views]), "")


@pytest.fixture
def tiny_backbone() -> Callable[..., Backbone]:
    def make(gain: float = 1.0, weights: str = "a" * 64) -> Backbone:
        return Backbone(
            name="tiny-test",
            frames=4,
            pixels=pixel_rule(8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
            layer="pool",
            cube_shape=(3, 2, 2, 2),
            weights_sha256=weights,
            weights_source="made for a test",
            module=_TinyNet(gain),
        )

    return make


@pytest.fixture
def tiny_videos(tmp_path: Path) -> Callable[..., VideoSet]:
    def make(count: int = 23) -> VideoSet:
        splits = sorted((("train", "val", "test")[i % 3] for i in range(count)), key=("train", "val", "test").index)
        keys = tuple(f"{split}/{i % 2}/{i}.mp4" for i, split in enumerate(splits))
        classes = tuple(f"{split}{i % 2}" for i, split in enumerate(splits))
        return VideoSet(
            name="folder",
            root=tmp_path,
            split_scheme="folder",
            flip_keeps_class=True,
            index=VideoIndex(keys, keys, classes, tuple(splits), ("",) * count),
            ignored={},
        )

    return make


@pytest.fixture
def tiny_decoder(monkeypatch: pytest.MonkeyPatch) -> _TinyDecoder:
    fake = _TinyDecoder()
    monkeypatch.setattr(pipeline, "decode_clip", fake)
    return fake
