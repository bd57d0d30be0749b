"""Decoding: videos a second on one core, `decode_clip` beside PyAV doing the same frames inside its own process.

    python benchmarks/decode.py [VIDEO ...]

Without arguments it renders one video for each of four codecs. The two sides take turns on the same file, and time is
processor time of this process and its children, so that other work on the machine moves the ratio little. PyAV is no
dependency of the project: without it (`pip install av`) only `decode_clip` is timed.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.decoding.pixels import PixelRule, pixel_rule
from mastaf.extract.decoding.sampling import even_indices

FRAMES, ROUNDS = 16, 9
# name -> what to show, how to code it. The noise keeps coders from skipping whole pictures.
RENDERED = {
    "h264_7s.mp4": ("testsrc2=s=320x240:r=30:d=7,noise=alls=5:allf=t", "-c:v libx264 -crf 26 -pix_fmt yuv420p"),
    "h264_10s.mp4": ("testsrc2=s=340x256:r=30:d=10,noise=alls=5:allf=t", "-c:v libx264 -crf 28 -pix_fmt yuv420p"),
    "vp9_4s.webm": ("testsrc2=s=320x240:r=12:d=4,noise=alls=5:allf=t", "-c:v libvpx-vp9 -b:v 300k -cpu-used 8"),
    "mpeg4_7s.avi": ("testsrc2=s=320x240:r=25:d=7,noise=alls=5:allf=t", "-c:v mpeg4 -q:v 5 -bf 2"),
    "tiny_1s.mp4": ("testsrc2=s=112x112:r=16:d=1", "-c:v libx264 -pix_fmt yuv420p"),
}


def with_pyav(path: Path, rule: PixelRule) -> int:
    """The same 16 frames, resized and cropped, by PyAV on one thread; the packets are counted first, as we do."""
    import av

    with av.open(str(path)) as container:
        count = sum(1 for packet in container.demux(container.streams.video[0]) if packet.size)
    wanted, corner = set(even_indices(count, FRAMES)), (rule.resize_size - rule.size) // 2
    inside = slice(corner, corner + rule.size)
    got = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        for k, frame in enumerate(container.decode(stream)):
            if k in wanted:
                side = rule.resize_size
                small = frame.reformat(side, side, "rgb24", interpolation="BILINEAR")
                got += small.to_ndarray()[inside, inside].copy().shape[-1] // 3
    return got


def processor_seconds(run: Callable[[], object]) -> float:
    """User and system time of `run`, its children included."""

    def used() -> float:
        spent = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        return sum(part.ru_utime + part.ru_stime for part in spent)

    before = used()
    run()
    return used() - before


def compare(path: Path, rule: PixelRule, *, pyav: bool) -> list[str]:
    """One row: name, frames, videos a second on a core by us and by PyAV, and the median ratio of the turns."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours.append(processor_seconds(lambda: decode_clip(path, frames=FRAMES, rule=rule)))
        if pyav:
            theirs.append(processor_seconds(lambda: with_pyav(path, rule)))
    row = [path.name, f"{1 / statistics.median(ours):.1f}"]
    if pyav:
        ratio = statistics.median(their / our for our, their in zip(ours, theirs, strict=True))
        row += [f"{1 / statistics.median(theirs):.1f}", f"{ratio:.2f}"]
    return row


def render_all(folder: Path) -> list[Path]:
    """The videos of `RENDERED`, made in `folder`."""
    for name, (picture, codec) in RENDERED.items():
        command = [ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", picture, *codec.split(), str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return [folder / name for name in RENDERED]


def main() -> None:
    try:
        import av  # noqa: F401
    except ImportError:
        pyav = False
    else:
        pyav = True
    header = ["video", "decode_clip, videos/s a core", *(["PyAV", "ratio"] if pyav else [])]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]] or render_all(Path(folder))
        print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for path in paths:
            print(f"| {' | '.join(compare(path, pixel_rule(224), pyav=pyav))} |", flush=True)


if __name__ == "__main__":
    main()
