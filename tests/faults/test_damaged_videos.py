"""Forty damaged videos: none crashes the run, hangs it or gets a wrong cube, and each is named with what is wrong."""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mastaf.cache.index import DONE
from mastaf.cache.store import open_store
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.decoding.sampling import even_indices

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "10")
SOURCES = {
    "last.mp4": H264,
    "first.mp4": (*H264, "-movflags", "+faststart"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "h264.mkv": H264,
    "vp9.webm": ("-c:v", "libvpx-vp9", "-cpu-used", "8", "-deadline", "realtime"),
    "h264.ts": H264,
}
Draw = random.Random


def truncated(data: bytes, draw: Draw) -> bytes:
    return data[: draw.randrange(40, len(data))]


def flipped(data: bytes, draw: Draw) -> bytes:
    damaged = bytearray(data)
    for _ in range(draw.choice([1, 20, 200])):
        damaged[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def holed(data: bytes, draw: Draw) -> bytes:
    """A part that never arrived, as zeros."""
    place, size = draw.randrange(len(data)), draw.randrange(1, len(data) // 2)
    return (data[:place] + bytes(size) + data[place + size :])[: len(data)]


def shortened(data: bytes, draw: Draw) -> bytes:
    """A part that is missing, so that all behind it is out of place."""
    place = draw.randrange(len(data))
    return data[:place] + data[place + draw.randrange(1, len(data) // 2) :]


DAMAGES = (truncated, flipped, holed, shortened)
RANDOM = [(source, damage) for damage in DAMAGES for source in SOURCES]  # 24 of them
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
TEXTS = {
    "hls.mp4": HLS.format("neighbour.mp4"),
    "hls_url.mp4": HLS.format("http://127.0.0.1:9/x.ts"),
    "concat.mp4": "ffconcat version 1.0\nfile neighbour.mp4\n",
    "dash.mp4": "<?xml version='1.0'?><MPD profiles='urn:mpeg:dash:profile:isoff-live:2011'>neighbour.mp4</MPD>",
    "sdp.mp4": SDP,
    "text.mp4": "this is no video\n" * 50,
}
NO_VIDEO = (*TEXTS, "zip.mp4", "zero.mp4", "zero.mkv", "audio.mp4", "huge.avi", "noise.mp4", "no_moov.mp4")  # 13
STILL_GOOD = ("mp4_named.avi", "ts_named.mp4", "rate_0.avi")  # 3


def write_no_video(name: str, path: Path, sources: dict[str, bytes], run: Callable[..., bytes]) -> None:
    if name in TEXTS:
        path.write_text(TEXTS[name])
    elif name == "zip.mp4":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("video.mp4", sources["last.mp4"])
    elif name == "audio.mp4":
        run("-f", "lavfi", "-i", "sine=d=1", path)
    elif name == "huge.avi":
        run("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1", "-c:v", "libvpx", "-f", "ivf", path)
        data = bytearray(path.read_bytes())
        start = data.index(b"\x9d\x01\x2a") + 3  # a VP8 key frame: width and height
        data[start : start + 4] = (16000).to_bytes(2, "little") * 2
        path.write_bytes(data)
    else:
        moov = sources["last.mp4"].index(b"moov") - 4
        content = {"noise.mp4": Draw(0).randbytes(30_000), "no_moov.mp4": sources["last.mp4"][:moov]}
        path.write_bytes(content.get(name, b""))


def write_still_good(name: str, path: Path, sources: dict[str, bytes]) -> None:
    if name == "rate_0.avi":
        data = bytearray(sources["mpeg4.avi"])
        rate = data.index(b"vids") + 20
        data[rate : rate + 8] = bytes(8)
        path.write_bytes(data)
    else:
        path.write_bytes(sources["last.mp4" if name == "mp4_named.avi" else "h264.ts"])


def every_frame(run: Callable[..., bytes], path: Path, rule: PixelRule, *, concealed: bool) -> np.ndarray:
    """All frames of a video, decoded in one go: uint8 [n, h, w, 3]."""
    corner = (rule.resize_size - rule.size) // 2
    scale = f"scale={rule.resize_size}:{rule.resize_size}:flags={rule.scaler}"
    graph = f"{scale},format=rgb24,crop={rule.size}:{rule.size}:{corner}:{corner}"
    held_back = ("-flags", "+output_corrupt", "-flags2", "+showall") if concealed else ()
    read = ("-max_error_rate", "1", "-threads", "1", "-reinit_filter", "0", *held_back, "-i", path, "-map", "0:V:0")
    raw = run(*read, "-vf", graph, "-fps_mode", "passthrough", "-f", "rawvideo", "pipe:1")
    return np.frombuffer(raw, np.uint8).reshape(-1, rule.size, rule.size, 3)


@pytest.fixture(scope="module")
def sources(make_clip: Callable, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sources")
    return {name: make_clip(folder / name, 5, *codec, frames=20).read_bytes() for name, codec in SOURCES.items()}


def damage_some(root: Path, sources: dict[str, bytes], picks: list[int], seed: int, run: Callable) -> None:
    """Write the damaged videos of these numbers (0 to 39) into `root/bad`, and whole ones into `root/good`."""
    kinds = [*RANDOM, *NO_VIDEO, *STILL_GOOD]
    for folder in ("good", "bad"):
        (root / folder).mkdir(parents=True)
    for name, data in sources.items():
        (root / "good" / name).write_bytes(data)
    (root / "bad/neighbour.mp4").write_bytes(sources["last.mp4"])
    for number in picks:
        kind = kinds[number]
        if isinstance(kind, str):
            path = root / "bad" / kind
            if kind in STILL_GOOD:
                write_still_good(kind, path, sources)
            else:
                write_no_video(kind, path, sources, run)
        else:
            source, damage = kind
            path = root / "bad" / f"{damage.__name__}_{source}"
            path.write_bytes(damage(sources[source], Draw(1000 * seed + number)))


def check_run(root: Path, out: Path, extraction: Callable, start: Callable, run: Callable) -> dict[str, int]:
    """Extract everything in a process of its own, and look at every row. Returns counts."""
    process = start([*extraction(root, out, "--shard-rows", "16"), "--json", str(out.with_suffix(".json"))])
    shown, err = process.communicate(timeout=240)
    assert (process.returncode, "Traceback" in err) == (1, False), err
    failures = {f["key"]: f["reason"] for f in json.loads(out.with_suffix(".json").read_text())["failures"]}
    store = open_store(out)
    network = load_backbone("r3d-tiny", weights="random", frames=4, size=32, seed=0)
    counts = dict.fromkeys(("whole", "failed", "noted", "as good as whole"), 0)
    for row, (key, state) in enumerate(zip(store.index.keys, store.states(), strict=True)):
        name = key.partition("/")[2]
        if state != DONE:
            assert "\n" not in failures[key]
            assert len(failures) > 10 or f"failed: {key}: {failures[key]}" in shown
            assert not key.startswith("good/")
            assert name not in STILL_GOOD
            counts["failed"] += 1
            continue
        assert name not in NO_VIDEO
        note, good = store.notes().get(row, ""), key.startswith("good/")
        # Some damaged pictures differ from one decoding by ffmpeg to the next; a wrong frame or cube would agree at no
        # time.
        tries = (agree(run, root / key, store.read([row])[0], network, note) for _ in range(1 if good else 20))
        assert any(tries), key
        assert not (good and note)
        counts["whole" if good or name == "neighbour.mp4" else "noted" if note else "as good as whole"] += 1
    assert counts["failed"] == len(failures) == store.states().tolist().count(2)
    return counts


def agree(run: Callable, path: Path, cube: np.ndarray, network: Backbone, note: str) -> bool:
    """Whether a clip has the frames of decoding everything, and the cube [c, t, h, w] is that of the clip."""
    frames = every_frame(run, path, network.pixels, concealed="concealment" in note)
    pixels = decode_clip(path, frames=4, rule=network.pixels).pixels
    with torch.no_grad():
        expected = network.forward(torch.from_numpy(pixels)[None])[0].numpy()  # [c, t, h, w]
    same = pixels == frames[even_indices(len(frames), 4)]  # [frames, h, w, 3]
    return bool(same.all()) and np.allclose(cube, expected, rtol=5e-3, atol=5e-3)


@pytest.fixture(scope="module")
def run() -> Callable[..., bytes]:
    import subprocess

    def ffmpeg(*arguments: str | Path) -> bytes:
        command = [ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True).stdout

    return ffmpeg


def test_ten_damaged_videos(sources, extraction, start, run, tmp_path, one_thread) -> None:
    damage_some(tmp_path / "videos", sources, [0, 7, 8, 15, 23, 24, 27, 30, 34, 37], 0, run)
    counts = check_run(tmp_path / "videos", tmp_path / "s.zarr", extraction, start, run)
    assert sum(counts.values()) == 10 + len(SOURCES) + 1
    assert counts["failed"] >= 4


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(2))
def test_forty_damaged_videos(part, sources, extraction, start, run, tmp_path, one_thread) -> None:
    """All kinds; the random ones again and again."""
    total = dict.fromkeys(("whole", "failed", "noted", "as good as whole"), 0)
    for seed in range(5 * part, 5 * part + 5):
        root = tmp_path / str(seed)
        damage_some(root / "videos", sources, list(range(40)), seed, run)
        counts = check_run(root / "videos", root / "s.zarr", extraction, start, run)
        assert sum(counts.values()) == 40 + len(SOURCES) + 1
        total = {kind: total[kind] + counts[kind] for kind in total}
    print(f"\n5 times 40 damaged videos: {total}")
