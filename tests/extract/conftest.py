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
mortal                                           see `Mortal`
"""

import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.errors import CacheError
from mastaf.cache.index import DONE, VideoIndex
from mastaf.cache.store import open_store, unlock
from mastaf.extract.backbones.base import Backbone, StagedNet
from mastaf.extract.datasets.videos import VideoSet
from mastaf.extract.decoding.decode import Clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.decoding.pixels import PixelRule, pixel_rule
from mastaf.extract.engine import pipeline
from mastaf.extract.errors import VideoError

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


MORTAL = """
import os, signal, time
from collections import OrderedDict
from pathlib import Path
import torch
from torch import nn
from mastaf.extract.backbones.wrap import wrap_module
from mastaf.extract.decoding.pixels import pixel_rule

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, (2, 8, 8), 1)

    def forward(self, x):
        if (x.amin(dim=(1, 2, 3, 4)) > 0.9).any():  # a white clip
            os.kill(os.getpid(), signal.SIGKILL)
        folder = os.environ.get("MORTAL_PIDS")
        if folder:
            (Path(folder) / str(os.getpid())).touch()
            time.sleep(float(os.environ.get("MORTAL_SLEEP", "0")))
        return self.conv(x)

def build():
    return nn.Sequential(OrderedDict(first=Net(), last=nn.Conv3d(4, 5, 1)))

def load(*, weights, frames, size, resize, layer, seed):
    odd = os.environ.get("ODD")  # a file that makes the weights others
    seed += 1 if odd and Path(odd).read_text() == "weights" else 0
    return wrap_module(
        name="mortal", build=build, pixels=pixel_rule(size or 16, resize=resize), frames=frames or 2, layer=layer,
        weights=weights or "random", seed=seed, advice="no file",
    )
"""


BOTH = """
import sys
import click
from mastaf.cache import console
from mastaf.cache.place import store_path
from mastaf.extract.backbones.registry import load_layers
from mastaf.extract.datasets.by_name import find_dataset
from mastaf.extract.run import extract_layers
from functools import partial

@click.command()
@click.argument("root", type=click.Path())
@click.argument("outs", nargs=2)
@click.option("--device", default="cpu")
@click.option("--cluster", default="")
def both(root, outs, **where):
    load = partial(load_layers, "mortal", weights="random", layers=("first", "last"))
    videos = find_dataset("folder", root=root, split_files=None, seed=0)
    how = {"precision": "fp32", "shard_rows": 2, "batch": 2, "threads": 1, "progress": False}
    how["views"] = ("plain", "flip")
    extract_layers(videos, load(), outs=[store_path(out) for out in outs], load=load, **how, **where)

if __name__ == "__main__":
    console.run(both)
"""


class Mortal:
    """A plug-in backbone, whose process kills itself at a white clip, on videos that `root` holds.

    It leaves its process id in the folder $MORTAL_PIDS, where that is set, and then takes $MORTAL_SLEEP s a batch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "videos"
        info = folder / "site" / "mortal-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[mastaf.backbones]\nmortal = mortal_net:load\n")
        (folder / "site" / "mortal_net.py").write_text(MORTAL)
        (folder / "both.py").write_text(BOTH)
        for number in range(20):
            path = self.root / ("walk", "run")[number % 2] / f"{number}.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            source = f"testsrc2=size=32x32:rate={4 + number}:duration=1"
            _ffmpeg_run("-f", "lavfi", "-i", source, "-frames:v", "4", "-c:v", "ffv1", path)

    def both(self, *arguments: Any) -> list[str]:
        """The command that extracts two layers in two views into two stores of any kind: the stores, `--device` or
        `--cluster`."""
        return [sys.executable, str(self.folder / "both.py"), str(self.root), *map(str, arguments)]

    def run_both(self, *arguments: Any) -> None:
        """The same in this process."""
        command = runpy.run_path(str(self.folder / "both.py"))["both"]
        command.main([str(self.root), *map(str, arguments)], standalone_mode=False)

    def whiten(self, root: Path, *names: str) -> Path:
        """A copy of the videos, by links, in which these are white."""
        for path in self.root.rglob("*.avi"):
            new = root / path.relative_to(self.root)
            new.parent.mkdir(parents=True, exist_ok=True)
            if path.stem in names:
                _ffmpeg_run("-f", "lavfi", "-i", "color=white:size=32x32:rate=4:duration=1", "-c:v", "ffv1", new)
            else:
                os.link(path, new)
        return root

    def extract(self, out: Path, *, root: Path | None = None, **options: Any) -> Any:
        """`extract` on the videos: shards of two, in batches of two, on one thread."""
        from mastaf.extract.backbones.registry import load_backbone, load_layers
        from mastaf.extract.datasets.by_name import find_dataset
        from mastaf.extract.run import extract

        videos = find_dataset("folder", root=root or self.root, split_files=None, seed=0)
        usual = {"precision": "fp32", "device": "cpu", "progress": False, "shard_rows": 2, "batch": 2, "threads": 1}
        load = partial(load_layers, "mortal", weights="random")
        return extract(videos, load_backbone("mortal", weights="random"), out=out, **usual | {"load": load} | options)


class Seams:
    """Two layers in two views, into an `.h5` and a store in object storage: stopped by SIGTERM, and then continued."""

    def __init__(self, mortal: Mortal, bucket: Any, folder: Path) -> None:
        self._mortal, self._bucket, self._folder = mortal, bucket, folder
        self.outs: list[Any] = [folder / "first.h5", bucket.new_place() / "last.zarr"]

    def terminate(self, *where: str) -> None:
        """Send SIGTERM once both stores have a shard, and see that it is a clean stop."""
        line = self._mortal.both(*self.outs, *where)
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(line, env=os.environ | {"OMP_NUM_THREADS": "1"}, **quiet) as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline and not all(map(self._begun, self.outs)):
                time.sleep(0.02)
            process.terminate()
            _, err = process.communicate(timeout=60)
        assert process.returncode == 75, err
        assert err.splitlines()[-1] == "error: ended by SIGTERM; the same command continues where it stopped"
        for out in self.outs:
            assert 0 < open_store(out).states().tolist().count(DONE) < 20
        self.require_tidy()

    def require_tidy(self) -> None:
        """No marks, locks or processes are left."""
        assert sorted(path.name for path in self._folder.iterdir()) == ["first.h5", "first.h5.shards"]
        assert not self._bucket.objects(self.outs[1].with_name("last.zarr.attempts"))
        assert [unlock(out, force=False) for out in self.outs] == [f"{out} is not locked" for out in self.outs]

    def require_equal(self, wholes: Sequence[Path]) -> None:
        """The stores have the rows of those that one process made, bit for bit."""
        for out, whole in zip(self.outs, wholes, strict=True):
            there, here = open_store(out), open_store(whole)
            assert list(there.records()) == list(here.records())  # of states, and the sha256 of each row
            assert there.digest == here.digest
            for shard in range(here.n_shards):
                np.testing.assert_array_equal(there.read_shard(shard), here.read_shard(shard))

    @staticmethod
    def _begun(out: Any) -> bool:
        with suppress(CacheError, OSError):
            return any(open_store(out).records())
        return False


@pytest.fixture
def seams(mortal: "Mortal", bucket: Any, tmp_path: Path) -> Seams:
    (tmp_path / "seams").mkdir()
    return Seams(mortal, bucket, tmp_path / "seams")


@pytest.fixture(scope="module")
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    made = Mortal(tmp_path_factory.mktemp("mortal"))
    with pytest.MonkeyPatch.context() as patch:
        site = str(made.folder / "site")
        patch.syspath_prepend(site)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH", "")])))
        yield made
