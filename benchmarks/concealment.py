"""Which of ffmpeg's options against damage give more frames of damaged videos.

    python benchmarks/concealment.py [VIDEO ...]

Each video (without arguments, one rendered for each of seven codecs and containers) is damaged sixteen times: cut off,
bytes overwritten, a part zeroed, a part missing. Each damaged file is decoded with each set of options. A row of the
table: files with more and with fewer frames than without options, and all frames.
"""

import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mastaf.extract.decoding.ffmpeg import ffmpeg_exe

DAMAGES = 16
OPTIONS = {
    "none": "",
    "-err_detect ignore_err": "-err_detect ignore_err",
    "-ec with favor_inter": "-ec guess_mvs+deblock+favor_inter",
    "-fflags +genpts": "-fflags +genpts",
    "-fflags +discardcorrupt": "-fflags +discardcorrupt",
    "-flags +output_corrupt": "-flags +output_corrupt",
    "-flags2 +showall": "-flags2 +showall",
    "+output_corrupt and +showall": "-flags +output_corrupt -flags2 +showall",
}
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=none"
RENDERED = {
    "h264.mp4": "-c:v libx264",
    "hevc.mp4": X265,
    "h264.mkv": "-c:v libx264",
    "vp9.webm": "-c:v libvpx-vp9 -cpu-used 8 -deadline realtime",
    "mpeg4.avi": "-c:v mpeg4",
    "h264.ts": "-c:v libx264",
    "mpeg2.ts": "-c:v mpeg2video",
}


def render_all(folder: Path) -> list[Path]:
    """The videos of `RENDERED`, 60 frames each, made in `folder`."""
    picture = "testsrc2=s=320x240:r=30:d=2,noise=alls=5:allf=t,format=yuv420p"
    for name, codec in RENDERED.items():
        command = [ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", picture, *codec.split(), str(folder / name)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return [folder / name for name in RENDERED]


def damaged(data: bytes, draw: random.Random) -> Iterator[bytes]:
    """`DAMAGES` damaged copies."""
    for number in range(DAMAGES):
        place, size = draw.randrange(100, len(data)), draw.randrange(1, len(data) // 2)
        if number % 4 == 0:
            yield data[:place]
        elif number % 4 == 1:
            copy = bytearray(data)
            for _ in range(30):
                copy[draw.randrange(100, len(data))] = draw.randrange(256)
            yield bytes(copy)
        elif number % 4 == 2:
            yield (data[:place] + bytes(size) + data[place + size :])[: len(data)]
        else:
            yield data[:place] + data[place + size :]


def frames(path: Path, options: str) -> int:
    """Frames that ffmpeg decodes."""
    read = ["-threads", "1", *options.split(), "-i", str(path), "-map", "0:V:0", "-max_error_rate", "1"]
    write = ["-c", "wrapped_avframe", "-fps_mode", "passthrough", "-progress", "pipe:1", "-f", "null", "-"]
    command = [ffmpeg_exe(), "-nostdin", "-v", "error", *read, *write]
    counts = re.findall(
        r"^frame=\s*(\d+)", subprocess.run(command, capture_output=True, text=True).stdout, re.MULTILINE
    )
    return int(counts[-1]) if counts else 0


def main() -> None:
    table = {name: [0, 0, 0] for name in OPTIONS}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(name) for name in sys.argv[1:]] or render_all(Path(folder))
        for path in paths:
            for copy in damaged(path.read_bytes(), random.Random(path.name)):
                target = Path(folder) / f"damaged{path.suffix}"
                target.write_bytes(copy)
                plain = frames(target, "")
                for name, options in OPTIONS.items():
                    count = frames(target, options)
                    table[name][0] += count > plain
                    table[name][1] += count < plain
                    table[name][2] += count
    print(f"{DAMAGES * len(paths)} damaged files\n\n| options | more | fewer | frames |\n|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
