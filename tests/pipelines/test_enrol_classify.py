"""`mastaf enrol` and `mastaf classify` as people use them, on good and on bad input."""

import csv
import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mastaf.cache.spec import FeatureSpec
from mastaf.extract.decoding.ffmpeg import ffmpeg_exe
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.own_videos import watching
from mastaf.pipelines.own_videos.answer import FIELDS, Scored
from mastaf.pipelines.own_videos.classes_file import read_classes
from mastaf.pipelines.own_videos.classifier import FewShotClassifier
from mastaf.pipelines.own_videos.segments import ScoredWindow, merge
from mastaf.pipelines.own_videos.support import queries_in
from mastaf.pipelines.own_videos.watching import arrivals
from mastaf.pipelines.own_videos.writers import clock

CLASSES = ("chase", "rock")


@pytest.fixture(scope="module")
def support(small_motion, tmp_path_factory):
    """Two classes of three clips; never changed."""
    root = tmp_path_factory.mktemp("own") / "support"
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for clip in sorted((small_motion / "test" / name).iterdir())[:3]:
            shutil.copy(clip, root / name)
    return root


@pytest.fixture(scope="module")
def saved(support, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "my.classes"
    FewShotClassifier.enrol(support).save(path)
    return path


@pytest.fixture
def clip(small_motion):
    """clip(class, number): one that is not enrolled."""
    return lambda name, number=0: sorted((small_motion / "test" / name).iterdir())[3 + number]


@pytest.fixture
def mine(support, tmp_path):
    """A copy of the support set to spoil."""
    return Path(shutil.copytree(support, tmp_path / "mine"))


def test_from_folders_to_labels(mine, clip, mastaf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (mine / "rock" / "broken.mp4").write_text("no video")
    shutil.copy(mine / "chase" / "clip000.mp4", mine / "chase" / "again.mp4")
    shutil.copy(mine / "chase" / "clip000.mp4", mine / "in no class.mp4")
    status, said, _ = mastaf("enrol", "--support", "mine", "--out", "new/my.classes", "--json", "e.json")
    assert status == 1  # a clip failed
    assert "failed: mine/rock/broken.mp4: not a video" in said.replace(str(tmp_path) + "/", "")
    assert "'chase/clip000.mp4' has the content of 'chase/again.mp4', and is left out" in said
    assert "ignored videos outside a class folder: 1 ('in no class.mp4')" in said
    assert "enrolled: 2 classes, 6 clips (chase 3, rock 3)" in said
    assert "calibrated by leave-one-out: " in said
    assert "false rejects: " in said
    assert "of right answers to new clips expect " in said
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["classes"] == {"chase": 3, "rock": 3}
    assert found["recipe"] == read_classes(Path("new/my.classes")).spec.recipe
    (tmp_path / "clips").mkdir()
    for name in CLASSES:
        shutil.copy(clip(name), tmp_path / "clips" / f"{name}.mp4")
    (tmp_path / "clips" / "cover.jpg").write_bytes(b"beside videos it is no frame")
    asked = ("clips", "nowhere.mp4", "mine/rock/broken.mp4")
    status, said, _ = mastaf("classify", "--classes", "new/my.classes", *asked, "--jsonl", "a.jsonl", "--csv", "a.csv")
    assert status == 1
    lines = said.splitlines()
    assert lines[0].startswith("clips/chase.mp4: ")
    assert lines[1].startswith("clips/rock.mp4: ")
    assert lines[2] == "failed: nowhere.mp4: cannot be opened: No such file or directory"
    assert lines[3].startswith("failed: mine/rock/broken.mp4: not a video")
    of_json = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    with (tmp_path / "a.csv").open(newline="") as file:
        of_csv = list(csv.DictReader(file))
    assert [answer["nearest"] for answer in of_json] == ["chase", "rock", None, None]
    for answer, line in zip(of_json[:2], lines, strict=False):
        said_so = (
            "none of the classes" if answer["rejected"] else f"{answer['nearest']} {100 * answer['probability']:.0f}"
        )
        assert line.removeprefix(f"{answer['path']}: ").startswith(said_so)
    for one, two in zip(of_json, of_csv, strict=True):
        assert tuple(two) == FIELDS
        assert {name: "" if value is None else str(value) for name, value in one.items()} == two


def test_a_file_is_changed_in_place_and_answers_go_to_the_terminal(saved, clip, mastaf, tmp_path):
    path = Path(shutil.copy(saved, tmp_path / "my.classes"))
    markup = "<img src=x onerror='a'>\x1b[2J"
    assert mastaf("enrol", "--out", path, "--rename", f"rock={markup}")[0] == 0
    (tmp_path / "more" / "launch").mkdir(parents=True)
    shutil.copy(clip("launch"), tmp_path / "more" / "launch")
    status, said, _ = mastaf("enrol", "--out", path, "--add", tmp_path / "more", "--remove", "chase")
    assert status == 0
    assert "not calibrated: one clip alone of 'launch'" in said
    assert "\x1b" not in said
    status, said, noted = mastaf("classify", "--classes", path, clip("rock"), "--jsonl", "-")
    assert status == 0
    (line,) = said.splitlines()
    assert json.loads(line)["nearest"] == markup
    assert json.loads(line)["probability"] is None
    assert "not calibrated" in noted
    status, said, _ = mastaf("classify", "--classes", path, clip("rock"))
    assert "\\x1b[2J, score " in said


def wrong(mine, tmp_path, kind):
    """Spoil something; the arguments of the command."""
    enrol = ["enrol", "--support", mine, "--out", tmp_path / "x.classes"]
    match kind:
        case "empty class":
            (mine / "nothing").mkdir()
        case "two classes":
            shutil.copy(mine / "rock" / "clip000.mp4", mine / "chase" / "same.mp4")
        case "two frame folders":
            for name in CLASSES:
                (mine / name / "frames").mkdir()
                (mine / name / "frames" / "1.png").write_bytes(b"the same")
        case "only broken":
            shutil.rmtree(mine / "rock")
            (mine / "rock").mkdir()
            (mine / "rock" / "broken.mp4").write_text("no video")
        case "one class":
            shutil.rmtree(mine / "rock")
        case "no classes":
            return ["enrol", "--support", mine / "rock", "--out", tmp_path / "x.classes"]
        case "no folder":
            return ["enrol", "--support", tmp_path / "nowhere", "--out", tmp_path / "x.classes"]
        case "out is a folder":
            return ["enrol", "--support", mine, "--out", mine]
        case "out is in a file":
            return ["enrol", "--support", mine, "--out", mine / "rock" / "clip000.mp4" / "x.classes"]
        case "out is another file":
            return ["enrol", "--support", mine, "--out", mine / "rock" / "clip000.mp4"]
        case "nothing to do":
            return ["enrol", "--out", tmp_path / "x.classes"]
        case "nothing to change":
            return ["enrol", "--out", tmp_path / "x.classes", "--remove", "rock"]
        case "fixed":
            return ["enrol", "--out", tmp_path / "x.classes", "--remove", "rock", "--frames", 8]
        case "odd rename":
            return ["enrol", "--out", tmp_path / "x.classes", "--rename", "rock"]
    return enrol


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty class", "no example clip for class 'nothing'; add a video to it"),
        ("two classes", "'chase/same.mp4' and 'rock/clip000.mp4' have the same content in two classes"),
        ("two frame folders", "have the same content in two classes"),
        ("only broken", "no example clip of class 'rock' can be used"),
        ("one class", "classes (1) must be two or more"),
        ("no classes", "no class folders in"),
        ("no folder", "must be a folder that holds CLASS/VIDEO"),
        ("out is a folder", "must be a file, but is a folder"),
        ("out is in a file", "must be in a folder, but"),
        ("out is another file", "is no file of classes, or is damaged"),
        ("nothing to do", "give --support DIR to enrol"),
        ("nothing to change", "must be a file that `mastaf enrol` wrote"),
        ("fixed", "FILE fixes frames"),
        ("odd rename", "must be OLD=NEW"),
    ],
)
def test_wrong_input_to_enrol_is_one_line_and_status_2(kind, words, mine, tmp_path, mastaf):
    status, _, complaint = mastaf(*wrong(mine, tmp_path, kind))
    (line,) = [line for line in complaint.splitlines() if line.startswith("error: ")]
    assert words in line
    assert status == 2
    assert not (tmp_path / "x.classes").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clip.mp4", "--classes", "nowhere.classes"], "must be a file that `mastaf enrol` wrote"),
        (["--classes", "SAVED"], "give a clip, a folder, or --watch DIR"),
        (["--classes", "SAVED", "."], "no videos in ."),
        (["--classes", "SAVED", "clip.mp4", "--window", "0.001"], "window (0.001) must be from"),
        (["--classes", "SAVED", "clip.mp4", "--stride", "1"], "stride (1.0) needs a window"),
        (["--classes", "SAVED", "clip.mp4", "--until-idle", "1"], "--until-idle is for --watch"),
        (["--classes", "SAVED", "clip.mp4", "--every", "1"], "--every is for --watch"),
        (["--classes", "SAVED", "--watch", "nowhere"], "watch (nowhere) must be a folder"),
        (["--classes", "SAVED", "clip.mp4", "--csv", "SAVED/a.csv"], "must be in a folder, but"),
    ],
)
def test_wrong_input_to_classify_is_one_line_and_status_2(arguments, words, saved, tmp_path, monkeypatch, mastaf):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.jsonl").write_text("of an earlier call")
    words_ = [str(part).replace("SAVED", str(saved)) for part in arguments]
    status, _, complaint = mastaf("classify", *words_, "--jsonl", "old.jsonl")
    (line,) = [line for line in complaint.splitlines() if line.startswith("error: ")]
    assert words in line
    assert status == 2
    assert "SAVED/a.csv" in arguments or (tmp_path / "old.jsonl").read_text() == "of an earlier call"


def test_a_clip_shorter_than_a_frame_is_named_and_one_frame_is_enough(saved, mastaf, clip, tmp_path):
    whole = clip("rock").read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[:40])
    still = ("-f", "lavfi", "-i", "color=size=64x48:rate=25", "-frames:v", "1")
    subprocess.run([ffmpeg_exe(), "-loglevel", "error", *still, tmp_path / "one.mp4"], check=True)
    for window in ((), ("--window", 1)):
        status, said, _ = mastaf("classify", "--classes", saved, tmp_path, *window)
        first, second = said.splitlines()
        assert status == 1
        assert first.startswith(f"failed: {tmp_path}/headless.mp4: ")
        assert second.startswith(f"{tmp_path}/one.mp4: ")


def test_a_long_video_becomes_segments_that_follow_each_other(saved, clip, mastaf, tmp_path):
    parts = tmp_path / "parts.txt"
    wanted = ["rock", "chase", "rock"]
    parts.write_text("".join(f"file '{clip(name, number)}'\n" for number, name in enumerate(wanted)))
    join = ("-f", "concat", "-safe", "0", "-i", parts, "-c", "copy", tmp_path / "long.mp4")
    subprocess.run([ffmpeg_exe(), "-loglevel", "error", *map(str, join)], check=True)
    (tmp_path / "frames").mkdir()
    subprocess.run([ffmpeg_exe(), "-loglevel", "error", "-i", clip("rock"), tmp_path / "frames" / "%d.png"], check=True)
    asked = ("--classes", saved, "--window", 0.8, "--stride", 0.2, "--json", tmp_path / "s.json")
    status, said, _ = mastaf("classify", tmp_path / "long.mp4", tmp_path / "frames", *asked)
    assert status == 0
    *segments, frames = json.loads((tmp_path / "s.json").read_text())["clips"]
    labels = [segment["nearest"] for segment in segments]
    assert labels[0] == labels[-1] == "rock"
    assert "chase" in labels
    assert segments[0]["start_s"] == 0
    for one, two in pairwise(segments):
        assert one["end_s"] == two["start_s"] > one["start_s"]
    assert f"{tmp_path}/long.mp4 0:00:00.0 - 0:00:0" in said
    assert (frames["nearest"], frames["start_s"]) == ("rock", None)
    assert "a folder of frames has no times" in frames["note"]


def test_neighbouring_windows_of_one_label_are_one_segment():
    def window(start, *sure):
        return ScoredWindow(start, start + 4, Scored(np.log(sure), np.array(sure), np.log(0.6)))

    windows = [
        window(0, 0.9, 0.1),
        window(2, 0.7, 0.3),
        window(4, 0.55, 0.45),
        window(6, 0.5, 0.5),
        window(7, 0.2, 0.8),
    ]
    found = list(merge(windows, Path("a.mp4"), ("rock", "chase")))
    assert [(one.label, one.start_s, one.end_s) for one in found] == [
        ("rock", 0, 5),
        (None, 5, 8.5),
        ("chase", 8.5, 11),
    ]
    assert [one.probability for one in found] == pytest.approx([0.8, 0.525, 0.8])
    assert [one.rejected for one in found] == [False, True, False]
    assert list(merge([], Path("a.mp4"), ("rock", "chase"))) == []
    assert clock(3723.44) == "1:02:03.4"


def test_a_watched_folder_gives_each_video_once_it_is_whole(tmp_path):
    events = {
        2: lambda: (tmp_path / "a.mp4").write_bytes(b"half"),
        3: lambda: (tmp_path / "a.mp4").write_bytes(b"half and half"),
        6: lambda: [(tmp_path / name).write_text("no video") for name in ("b.txt", "cover.jpg")],
        8: lambda: (tmp_path / "a.mp4").write_bytes(b"changed since"),
    }
    (tmp_path / "first.mp4").write_bytes(b"there")
    time_, found = [0], []

    def sleep(_):
        time_[0] += 1
        events.get(time_[0], lambda: None)()

    for batch in arrivals(tmp_path, every_s=1, idle_s=4, sleep=sleep, now=lambda: time_[0]):
        found.append((time_[0], [path.name for path in batch]))
    assert found == [(1, ["first.mp4"]), (4, ["a.mp4"]), (9, ["a.mp4"])]
    assert time_[0] == 13


def test_a_watched_folder_may_lose_folders_and_is_missed_when_it_goes(tmp_path, monkeypatch):
    inbox = tmp_path / "inbox"
    (inbox / "sub").mkdir(parents=True)
    (inbox / "sub" / "a.mp4").write_bytes(b"a")
    looks = []

    def losing(folder):
        looks.append(folder)
        if len(looks) == 2:
            shutil.rmtree(inbox / "sub")
            (inbox / "b.mp4").write_bytes(b"b")
            raise FileNotFoundError(2, "No such file or directory", str(inbox / "sub"))
        return plain(folder)

    plain = watching.videos_below
    monkeypatch.setattr(watching, "videos_below", losing)
    coming = arrivals(inbox, every_s=1, idle_s=None, sleep=lambda _: None)
    assert next(coming) == [inbox / "b.mp4"]
    shutil.rmtree(inbox)
    with pytest.raises(PipelineError, match="is no folder any more"):
        next(coming)


def test_images_beside_videos_do_not_make_a_folder_a_video(tmp_path):
    (tmp_path / "preview.jpg").write_bytes(b"")
    assert queries_in(tmp_path) == [tmp_path]
    for name in ("clip1.mp4", "clip10.MOV", "clip2.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in queries_in(tmp_path)] == ["clip1.mp4", "clip2.mp4", "clip10.MOV"]


def test_watching_goes_on_after_a_broken_video_and_adds_to_its_files(saved, clip, mastaf, tmp_path):
    (tmp_path / "inbox").mkdir()
    shutil.copy(clip("rock"), tmp_path / "inbox" / "rock.mp4")
    (tmp_path / "inbox" / "a.mp4").write_text("no video")
    watch = ("--watch", tmp_path / "inbox", "--every", 0.01, "--until-idle", 0.03)
    for times in (1, 2):
        status, said, _ = mastaf("classify", "--classes", saved, *watch, "--csv", tmp_path / "a.csv")
        assert status == 1
        assert [line.split(": ")[0] for line in said.splitlines()] == ["failed", f"{tmp_path}/inbox/rock.mp4"]
        with (tmp_path / "a.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 2 * times


def test_ctrl_c_ends_watching_and_is_no_error(saved, clip, mastaf, tmp_path, monkeypatch):
    def one_and_ctrl_c(folder, **_):
        yield [folder / "rock.mp4"]
        raise KeyboardInterrupt

    monkeypatch.setattr("mastaf.pipelines.own_videos.classifying.arrivals", one_and_ctrl_c)
    shutil.copy(clip("rock"), tmp_path / "rock.mp4")
    status, said, complaint = mastaf("classify", "--classes", saved, "--watch", tmp_path, "--json", tmp_path / "a.json")
    assert (status, complaint) == (0, "")
    assert said.startswith(f"{tmp_path}/rock.mp4: ")
    assert json.loads((tmp_path / "a.json").read_text())["answers"] == 1


def spoil(path, change):
    """Rewrite a file of classes with other facts and tensors."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="np") as file:
        facts, tensors = json.loads(file.metadata()["mastaf"]), {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    facts = change(facts, tensors) or facts
    save_file(tensors, path, metadata={"mastaf": facts if isinstance(facts, str) else json.dumps(facts)})


def set_spec(facts, **fields):
    """Another spec, with its own digest."""
    facts["spec"].update(fields)
    facts["recipe"] = FeatureSpec.from_json(facts["spec"]).recipe


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f, t: f.update(schema=2), "schema"),
        (lambda f, t: f.update(recipe="0" * 64), "its recipe is not the digest of its spec"),
        (lambda f, t: f["spec"].update(size="x"), "size"),
        (lambda f, t: set_spec(f, frames=10**9), "must be at most"),
        (lambda f, t: set_spec(f, frames=0), "must be at least 1"),
        (lambda f, t: f.update(more=1), "unknown fields"),
        (lambda f, t: f.pop("examples"), "unknown fields"),
        (lambda f, t: f["examples"].pop(), "must be one of"),
        (lambda f, t: f["examples"][0].update(class_name=" "), "blank"),
        (lambda f, t: f["examples"][0].update(sha256=f["examples"][1]["sha256"]), "the same content"),
        (lambda f, t: f["examples"][0].update(extra=1), "extra"),
        (lambda f, t: f["calibration"].update(temperature=-1), "temperature"),
        (lambda f, t: f["network"].update(folded="yes"), "folded"),
        (lambda f, t: f["head"].update(keywords=[]), "keywords"),
        (lambda f, t: f["head"]["keywords"].update(bottleneck=10**9), "must be at most 65536"),
        (lambda f, t: f["head"]["keywords"].update(cardinalities=[2, 10**9]), "must be at most 65536"),
        (lambda f, t: t["cubes"].__setitem__((0, 0, 0, 0, 0), np.nan), "finite"),
        (lambda f, t: t.update(cubes=t["cubes"].astype(np.float32)), "float16"),
        (lambda f, t: t.pop("cubes") is None, "cubes"),
        (lambda f, t: t.update(other=t["cubes"]), "unknown tensors"),
        (lambda f, t: "[" * 100_000, "damaged"),
        (lambda f, t: '{"schema": NaN}', "damaged"),
    ],
)
def test_a_file_of_a_stranger_is_refused_in_one_line(change, words, saved, tmp_path):
    path = Path(shutil.copy(saved, tmp_path / "x.classes"))
    spoil(path, lambda facts, tensors: result if isinstance(result := change(facts, tensors), str) else None)
    with pytest.raises(PipelineError, match=words) as raised:
        read_classes(path)
    assert "\n" not in str(raised.value)


def test_a_head_that_does_not_fit_its_tensors_is_refused(saved, clip, tmp_path, mastaf):
    path = Path(shutil.copy(saved, tmp_path / "x.classes"))
    spoil(path, lambda facts, tensors: facts["head"]["keywords"].update(variant="full"))
    status, _, complaint = mastaf("classify", "--classes", path, clip("rock"))
    assert (status, "do not fit the method" in complaint) == (2, True)


def test_a_file_that_was_cut_is_refused(saved, tmp_path):
    for size in (0, 4, 1000, saved.stat().st_size - 1):
        path = tmp_path / "cut.classes"
        path.write_bytes(saved.read_bytes()[:size])
        with pytest.raises(PipelineError, match="is damaged"):
            read_classes(path)
