"""The embedded data set: the class is the motion alone, and rendering is repeatable, whole or not at all."""

import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.cache.errors import StoppedError
from mastaf.extract.datasets import motion
from mastaf.extract.datasets.motion import MOTION_CLASSES, clip_generator, render_motion
from mastaf.extract.datasets.motion_programmes import FRAMES, PROGRAMMES
from mastaf.extract.datasets.motion_render import SIDE, render_clip
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.extract.errors import ExtractError

FEW = {"train": 2, "val": 1, "test": 1}
ALL = [(split, name) for split, names in MOTION_CLASSES.items() for name in names]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("motion") / "root"
    render_motion(root, clips_per_class=FEW, workers=2)
    return root


def bytes_of(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*.mp4")}


PUBLISHED = {
    "train": "slide_right slide_up spin_cw grow circle_ccw pong zigzag_down shake blink approach orbit_cw counter",
    "val": "pulse vanish swap diag_ul diag_dr uturn",
    "test": "fall_bounce spiral_out rock teleport launch chase in_turn stop_go",
}


def test_class_lists_are_as_published():
    for split, names in PUBLISHED.items():
        assert set(MOTION_CLASSES[split]) >= set(names.split())
    names = [name for _, name in ALL]
    assert len(set(names)) == len(names)


def test_layout_and_format(rendered):
    expected = {f"{split}/{name}/clip{n:03d}.mp4" for split, name in ALL for n in range(FEW[split])}
    assert set(bytes_of(rendered)) == expected
    assert {path.name for path in rendered.iterdir()} == {"train", "val", "test", ".motion.json", ".motion.lock"}
    said = subprocess.run(
        [ffmpeg_exe(), "-hide_banner", "-i", rendered / "val/pulse/clip000.mp4"], capture_output=True, text=True
    ).stderr
    assert "h264" in said
    assert "yuv420p" in said
    assert f"{SIDE}x{SIDE}" in said


def test_a_file_shows_the_rendered_frames(rendered):
    command = [ffmpeg_exe(), "-v", "error", "-i", rendered / "train/counter/clip001.mp4"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    decoded = np.frombuffer(raw, np.uint8).reshape(FRAMES, SIDE, SIDE, 3).astype(int)
    clip = render_clip(PROGRAMMES["train"]["counter"], clip_generator(0, "train", "counter", 1)).astype(int)
    # Chroma has half the resolution in the file, so edges of colour differ, and means do not.
    assert np.abs(decoded - clip).mean() < 8
    assert np.abs(decoded.mean(axis=(1, 2)) - clip.mean(axis=(1, 2))).max() < 4


def test_a_clip_depends_on_seed_class_and_number_alone(rendered, tmp_path):
    fewer = {"train": 1, "val": 1, "test": 0}
    render_motion(tmp_path / "again", clips_per_class=fewer, workers=1)
    again, first = bytes_of(tmp_path / "again"), bytes_of(rendered)
    assert again == {path: digest for path, digest in first.items() if path in again}
    assert len(again) == len(MOTION_CLASSES["train"]) + len(MOTION_CLASSES["val"])


def test_seed_split_class_and_number_each_give_another_clip():
    streams = [(0, "test", "rock", 0), (1, "test", "rock", 0), (0, "val", "rock", 0), (0, "test", "chase", 0)]
    streams.append((0, "test", "rock", 1))
    clips = [render_clip(PROGRAMMES["test"]["rock"], clip_generator(*stream), side=40) for stream in streams]
    again = render_clip(PROGRAMMES["test"]["rock"], clip_generator(*streams[0]), side=40)
    assert np.array_equal(clips[0], again)
    assert len({clip.tobytes() for clip in clips}) == len(streams)


def test_a_complete_root_is_left_alone(rendered):
    before = {path: path.stat().st_mtime_ns for path in rendered.rglob("*")}
    render_motion(rendered)
    render_motion(rendered, clips_per_class=FEW)
    assert {path: path.stat().st_mtime_ns for path in rendered.rglob("*")} == before


@pytest.mark.parametrize("options", [{"seed": 1}, {"clips_per_class": {"train": 5, "val": 1, "test": 1}}])
def test_another_rendering_is_refused(rendered, options):
    with pytest.raises(ExtractError, match=r"holds another rendering .*use another --root, or delete it"):
        render_motion(rendered, **options)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ExtractError, match="must be empty"):
        render_motion(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["thesis.txt"]


def test_wrong_counts_are_refused(tmp_path):
    with pytest.raises(ExtractError, match="must name train, val or test"):
        render_motion(tmp_path / "x", clips_per_class={"dev": 3})


@pytest.mark.parametrize("stops_at", [0, 3, 9])
def test_an_interrupted_rendering_is_finished_by_the_same_call(rendered, tmp_path, monkeypatch, stops_at):
    root, calls = tmp_path / "root", []

    def render_some(*arguments):
        calls.append(arguments)
        if len(calls) > stops_at:
            raise KeyboardInterrupt
        return render_clip(*arguments)

    monkeypatch.setattr(motion, "render_clip", render_some)
    with pytest.raises(KeyboardInterrupt):
        render_motion(root, clips_per_class=FEW, workers=1)
    assert not (root / ".motion.json").exists()
    done = {path: path.stat().st_mtime_ns for path in root.rglob("*.mp4") if ".rendering" not in str(path)}
    (root / ".rendering-leftover").mkdir()
    monkeypatch.undo()
    render_motion(root, clips_per_class=FEW, workers=2)
    assert bytes_of(root) == bytes_of(rendered)
    assert {path: path.stat().st_mtime_ns for path in done} == done, "finished classes are not rendered again"
    assert not list(root.glob(".rendering*"))


def test_a_full_disk_stops_with_one_line_and_can_be_continued(rendered, tmp_path, monkeypatch):
    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(motion, "encode_clips", full)
    with pytest.raises(StoppedError, match="the disk is full"):
        render_motion(tmp_path / "root", clips_per_class=FEW)
    monkeypatch.undo()
    render_motion(tmp_path / "root", clips_per_class=FEW)
    assert bytes_of(tmp_path / "root") == bytes_of(rendered)


def test_a_failing_encoder_is_named(tmp_path, monkeypatch):
    script = tmp_path / "ffmpeg"
    script.write_text("#!/bin/sh\necho 'Unknown encoder libx264' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setenv("MASTAF_FFMPEG", str(script))
    with pytest.raises(ExtractError, match=r"status 3.*Unknown encoder libx264"):
        render_motion(tmp_path / "root", clips_per_class=FEW, workers=1)
    assert not (tmp_path / "root" / ".motion.json").exists()


def test_the_marker_says_what_was_rendered(rendered):
    marker = json.loads((rendered / ".motion.json").read_text())
    assert marker["seed"] == 0
    assert marker["clips_per_class"] == FEW


@pytest.mark.parametrize(("split", "name"), ALL)
@given(number=st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_programmes_move_something_and_stay_near_the_frame(split, name, number):
    tracks = PROGRAMMES[split][name](clip_generator(0, split, name, number))
    assert 1 <= len(tracks) <= 2, "at least one of three sprites must stand still"
    values = np.stack([[track.x, track.y, track.angle, track.scale, track.alpha] for track in tracks])  # [n, 5, frames]
    assert values.shape[2] == FRAMES
    assert np.isfinite(values).all()
    assert np.ptp(values, axis=2).max() > 0.05, "something must change"
    assert values[:, :2].max(axis=(0, 2)).max() - values[:, :2].min(axis=(0, 2)).min() < 2
    assert (values[:, 3] > 0.3).all()
    assert (values[:, 3] < 2).all()
    assert (values[:, 4] >= 0).all()
    assert (values[:, 4] <= 1).all()


@pytest.mark.parametrize("split", list(MOTION_CLASSES))
def test_the_middle_frame_does_not_tell_the_class(split):
    """A linear classifier sees where something is in the middle frame (and stays at chance), or what changes."""
    per_class, side = 60, 32
    looks, changes, labels = [], [], []
    for label, name in enumerate(MOTION_CLASSES[split]):
        for number in range(per_class):
            clip = render_clip(PROGRAMMES[split][name], clip_generator(9, split, name, number), side=side) / 255.0
            frame = clip[FRAMES // 2]
            looks.append([*coarse(np.abs(frame - np.median(frame, axis=(0, 1)))), *frame.mean(axis=(0, 1))])
            change = np.abs(np.diff(clip, axis=0))  # [frames - 1, side, side, 3]
            changes.append([*coarse(change.mean(axis=0)), *change.mean(axis=(1, 2, 3))])
            labels.append(label)
    chance = 1 / len(MOTION_CLASSES[split])
    error = (chance * (1 - chance) / (len(labels) / 2)) ** 0.5
    assert linear_accuracy(np.array(looks), np.array(labels)) < chance + 4 * error
    assert linear_accuracy(np.array(changes), np.array(labels)) > chance + 8 * error


def coarse(image: np.ndarray) -> np.ndarray:
    """[side, side, 3] -> means of an 8 x 8 grid, [64]."""
    step = len(image) // 8
    return image.reshape(8, step, 8, step, 3).mean(axis=(1, 3, 4)).ravel()


def linear_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy on the odd rows of a ridge regression onto the classes, fitted on the even rows."""
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    rows = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)  # [n, d + 1]
    seen, new = np.arange(len(labels)) % 2 == 0, np.arange(len(labels)) % 2 == 1
    targets = np.eye(labels.max() + 1)[labels]  # [n, classes]
    gram = rows[seen].T @ rows[seen] + 30 * np.eye(rows.shape[1])
    weights = np.linalg.solve(gram, rows[seen].T @ targets[seen])  # [d + 1, classes]
    return float(((rows[new] @ weights).argmax(axis=1) == labels[new]).mean())
