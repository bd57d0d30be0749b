"""A video that is replaced while it is read gives the frames of one state of it; ffmpeg stopped at chosen moments."""

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mastaf.extract.decoding.decode import decode_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.decoding.fingerprint import fingerprint
from mastaf.extract.decoding.pixels import PixelRule
from mastaf.extract.decoding.sampling import even_indices
from mastaf.extract.errors import VideoError

H264 = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p")


class Gate:
    """An ffmpeg that waits at chosen calls (the first is 0) while `change` is done to the video."""

    def __init__(self, folder: Path, calls: set[int], change: Callable[[], object]) -> None:
        self._folder, self._change = folder, change
        folder.mkdir()
        self.exe = folder / "ffmpeg"
        # Folders count and signal: this process may write no files.
        waits = "".join(f"{call}) mkdir hold{call}; until [ -d go{call} ]; do sleep 0.01; done;; " for call in calls)
        self.exe.write_text(
            f"#!/bin/sh\nhere=$PWD; cd '{folder}'\nn=0; until mkdir call$n 2>/dev/null; do n=$((n+1)); done\n"
            f'case $n in {waits} esac\ncd "$here"\nexec \'{ffmpeg_exe()}\' "$@"\n'
        )
        self.exe.chmod(0o755)
        self._thread = threading.Thread(target=self._serve, args=(sorted(calls),), daemon=True)
        self._thread.start()

    def _serve(self, calls: list[int]) -> None:
        deadline = time.monotonic() + 30
        for call in calls:
            while not (self._folder / f"hold{call}").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            self._change()
            (self._folder / f"go{call}").mkdir()


def overwrite(video: Path, new: Path) -> None:
    """In place, as `cp` does: the same inode."""
    video.write_bytes(new.read_bytes())


def replace(video: Path, new: Path) -> None:
    """By a rename, with the times of the old content."""
    status, aside = video.stat(), video.with_suffix(".new")
    shutil.copy(new, aside)
    os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
    aside.rename(video)


@pytest.mark.parametrize("change", [overwrite, replace])
@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize(("old", "new"), [(20, 9), (9, 20)])
def test_a_replaced_video_is_wholly_the_new_one(
    change: Callable, call: int, old: int, new: int, make_video, frame_numbers, tmp_path, rule, monkeypatch
) -> None:
    # A transport stream claims nothing: its packets are counted in one pass and decoded in another.
    path, other = tmp_path / "video.ts", make_video(f"{new}.ts", *H264, frames=new)
    path.write_bytes(make_video(f"{old}.ts", *H264, frames=old).read_bytes())
    gate = Gate(tmp_path / "gate", {call}, lambda: change(path, other))
    monkeypatch.setenv("MASTAF_FFMPEG", str(gate.exe))
    clip = decode_clip(path, frames=8, rule=rule)
    assert frame_numbers(clip.pixels) == even_indices(new, 8)
    assert clip.note == ""
    assert clip.seen == fingerprint(path)


def test_a_video_that_is_written_all_the_time_is_a_failure(make_video, tmp_path, rule, monkeypatch) -> None:
    path, numbers = tmp_path / "video.ts", iter((20, 9) * 6)
    path.write_bytes(make_video("9.ts", *H264, frames=9).read_bytes())
    videos = {n: make_video(f"{n}.ts", *H264, frames=n) for n in (9, 20)}
    gate = Gate(tmp_path / "gate", set(range(12)), lambda: overwrite(path, videos[next(numbers)]))
    monkeypatch.setenv("MASTAF_FFMPEG", str(gate.exe))
    with pytest.raises(VideoError, match=r"^was changed while it was read"):
        decode_clip(path, frames=8, rule=rule)


def test_a_folder_of_frames_is_of_one_state(frame_folder, frame_numbers, tmp_path, rule, monkeypatch) -> None:
    folder = tmp_path / "frames"
    shutil.copytree(frame_folder, folder)

    def backwards() -> None:
        for k in range(1, 21):
            shutil.copy(frame_folder / f"f{21 - k}.png", folder / f"f{k}.png")

    gate = Gate(tmp_path / "gate", {0}, backwards)
    monkeypatch.setenv("MASTAF_FFMPEG", str(gate.exe))
    assert frame_numbers(decode_clip(folder, frames=4, rule=rule).pixels) == [19, 13, 7, 0]


def test_a_fingerprint_sees_every_change(tmp_path: Path, rule: PixelRule) -> None:
    path, frames = tmp_path / "a.mp4", tmp_path / "frames"
    frames.mkdir()
    assert fingerprint(path) == ""
    seen = {fingerprint(frames)}
    for content in (b"one", b"two", b"three"):
        for target in (path, frames / "1.png"):
            target.write_bytes(content)
        seen |= {fingerprint(path), fingerprint(frames)}
        time.sleep(0.02)  # the clock of a file system ticks
    assert len(seen) == 7
    (frames / "notes.txt").touch()
    assert fingerprint(frames) in seen
