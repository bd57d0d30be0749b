"""Data sets found on disk; nothing is decoded, so the videos are empty files."""

import random

import pytest
from mastaf.extract.datasets.by_name import DATASETS, default_root, find_dataset
from mastaf.extract.datasets.coverage import coverage_lines
from mastaf.extract.datasets.motion import MOTION_CLASSES, render_motion
from mastaf.extract.errors import ExtractError
from mastaf.extract.splits.table import load_split


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def frames(root, *folders):
    for folder in folders:
        touch(root, f"{folder}/00001.jpg", f"{folder}/00002.jpg")


def rows(videos):
    index = videos.index
    return list(zip(index.splits, index.classes, index.keys, index.paths, strict=True))


def hmdb_names(class_name, count):
    films = ("Amazing_Soccer_#2", "Fight_!_(1993)", "a;b@c+d~&e", "[HD]_avi", "x__y")
    return [f"{films[i % 5]}_{class_name}_f_cm_np1_ba_bad_{i}" for i in range(count)]


def ucf_names(class_name, count):
    spelled = "HandStandPushups" if class_name == "HandstandPushups" else class_name
    return [f"v_{spelled}_g{1 + i // 7:02d}_c{1 + i % 7:02d}" for i in range(count)]


def write_lists(folder, entries):
    """entries: split -> lines."""
    folder.mkdir(exist_ok=True)
    for split in ("train", "val", "test"):
        (folder / f"{split}list03.txt").write_text("\n".join(entries.get(split, [])) + "\n")
    return folder


# --- published splits of whole classes


@pytest.mark.parametrize(("name", "names"), [("hmdb51", hmdb_names), ("ucf101", ucf_names)])
def test_a_complete_copy_is_complete_and_ordered(tmp_path, name, names):
    table = load_split(DATASETS[name].scheme)
    small = [c for c in table.classes if c.n_videos < 130]
    for c in small:
        touch(tmp_path, *(f"{c.name}/{stem}.avi" for stem in names(c.name, c.n_videos)))
    videos = find_dataset(name, root=tmp_path)
    assert len(videos.index) == sum(c.n_videos for c in small)
    assert all(row["found"] in (0, row["expected"]) for row in videos.coverage)
    assert sum(row["found"] for row in videos.coverage) == len(videos.index)
    order = [("train", "val", "test").index(split) for split in videos.index.splits]
    assert order == sorted(order)
    assert "" not in videos.index.groups
    assert videos.split_scheme == f"{name}-arn"
    assert videos.flip_keeps_class


def test_natural_order_within_a_class(tmp_path):
    touch(tmp_path, *(f"pour/film_pour_f_cm_np1_ba_bad_{n}.avi" for n in (10, 2, 1, 100, 21)))
    keys = find_dataset("hmdb51", root=tmp_path).index.keys
    assert [int(key.rsplit("_", 1)[1]) for key in keys] == [1, 2, 10, 21, 100]


def test_spelling_layout_extension_and_creation_order_change_nothing(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for class_name in ("brush_hair", "pour", "eat"):
        for stem in hmdb_names(class_name, 4):
            touch(one, f"{class_name}/{stem}.avi")
    paths = [
        f"{split}/{folder}/{stem.replace('_', ' ') if split == 'train' else stem}.webm"
        for split, folder, class_name in (("train", "Brush Hair", "brush_hair"), ("val", "EAT", "eat"))
        for stem in hmdb_names(class_name, 4)
    ]
    random.Random(0).shuffle(paths)
    touch(two, *paths)
    frames(two, *(f"test/Pour/{stem}" for stem in hmdb_names("pour", 4)))
    a, b = find_dataset("hmdb51", root=one).index, find_dataset("hmdb51", root=two).index
    assert (a.keys, a.classes, a.splits, a.groups) == (b.keys, b.classes, b.splits, b.groups)
    assert a.paths != b.paths
    assert a.splits == ("train",) * 4 + ("val",) * 4 + ("test",) * 4


def test_the_split_comes_from_the_table_and_not_from_the_folder(tmp_path):
    touch(tmp_path, "train/pour/a.avi", "test/brush_hair/b.avi")
    index = find_dataset("hmdb51", root=tmp_path).index
    assert dict(zip(index.classes, index.splits, strict=True)) == {"pour": "test", "brush_hair": "train"}


def test_ucf101_files_are_found_under_the_spelling_of_their_folder(tmp_path):
    touch(tmp_path, "HandStandPushups/v_HandstandPushups_g01_c01.avi", "HorseR-ace/v_HorseRace_g01_c01.avi")
    index = find_dataset("ucf101", root=tmp_path).index
    assert index.keys == ("HandstandPushups/v_HandStandPushups_g01_c01", "HorseRace/v_HorseRace_g01_c01")
    assert index.groups == ("HandstandPushups/g01", "HorseRace/g01")


def test_coverage_is_said_in_words(tmp_path):
    for c in load_split("hmdb51-arn").of("test"):
        touch(tmp_path, *(f"{c.name}/{stem}.avi" for stem in hmdb_names(c.name, c.n_videos - (c.name == "pour"))))
    videos = find_dataset("hmdb51", root=tmp_path)
    assert coverage_lines(videos.split_scheme, videos.coverage)[2] == "hmdb51-arn test: 1291 of 1292, 'pour' is 1 short"
    assert coverage_lines(videos.split_scheme, videos.coverage)[0] == "hmdb51-arn train: 0 of 4280, no class is there"


def test_stray_files_and_unknown_classes_are_counted_and_not_fatal(tmp_path):
    touch(tmp_path, "pour/a.avi", "pour/.DS_Store", "pour/._a.avi", "pour/Thumbs.db", "pour/notes.txt", "readme.txt")
    touch(tmp_path, "__MACOSX/pour/a.avi", "juggling/b.avi", "sit/empty_folder/x.txt")
    videos = find_dataset("hmdb51", root=tmp_path)
    assert videos.index.paths == ("pour/a.avi",)
    assert videos.ignored == {
        "stray files": 6,
        "folders that match no class of the split": 1,
        "class folders without videos": 1,
        "folders inside a class that hold no frames": 1,
    }
    assert any("'juggling'" in note for note in videos.notes)


@pytest.mark.parametrize(
    "twins", [("pour/a.avi", "pour/a.mp4"), ("pour/a.avi", "test/Pour/A.webm"), ("pour/a b.avi", "pour/a_b.avi")]
)
def test_two_videos_with_one_key_are_an_error_that_names_both(tmp_path, twins):
    touch(tmp_path, *twins)
    with pytest.raises(ExtractError) as error:
        find_dataset("hmdb51", root=tmp_path)
    assert all(f"'{path}'" in str(error.value) for path in twins)


def test_nothing_matched_says_what_was_expected(tmp_path):
    touch(tmp_path, "juggling/b.avi")
    with pytest.raises(
        ExtractError, match=r"expected ROOT/CLASS/VIDEO.*'brush_hair'.*folders that match no class of the split \(1\)"
    ):
        find_dataset("hmdb51", root=tmp_path)


# --- list files


def test_list_files_choose_the_videos_and_name_the_missing(tmp_path):
    lists = write_lists(tmp_path / "lists", {"test": ["pour/x_#1", "pour/x_2", "sit/y"], "train": ["clap/z"]})
    touch(tmp_path / "v", "pour/X #1.mp4", "pour/unlisted.avi", "y.avi")
    frames(tmp_path / "v", "clap/z")
    videos = find_dataset("hmdb51", root=tmp_path / "v", split_files=lists)
    assert rows(videos) == [
        ("train", "clap", "clap/z", "clap/z"),
        ("test", "pour", "pour/x_#1", "pour/X #1.mp4"),
        ("test", "sit", "sit/y", "y.avi"),
    ]
    assert any("listed videos that are not there: 1 ('pour/x_2')" in note for note in videos.notes)
    assert videos.absent == ("pour/x_2",)
    assert any("names 3 videos, but hmdb51-arn was published with 1292" in note for note in videos.notes)
    assert videos.ignored == {"videos that are not in the published lists": 1}


def test_ssv2_lies_in_one_flat_folder_of_files_and_frame_folders(tmp_path):
    table = load_split("ssv2-cmn")
    names = [c.name for c in table.classes]
    entries = {
        s: [f"{c.name}/{n}" for n, c in enumerate(table.classes) if c.split == s] for s in ("train", "val", "test")
    }
    lists = write_lists(tmp_path / "lists", entries)
    touch(tmp_path / "v", *(f"{n}.webm" for n in range(50)), "998.webm")
    frames(tmp_path / "v", *(str(n) for n in range(50, 99)), "999")
    touch(tmp_path / "v", "99/nothing.txt")
    videos = find_dataset("ssv2-cmn", root=tmp_path / "v", split_files=lists)
    assert sorted(videos.index.classes) == sorted(names[:99])
    assert videos.index.keys[0].rsplit("/", 1)[0] == videos.index.classes[0]
    assert not videos.flip_keeps_class
    assert videos.ignored["videos that are not in the published lists"] == 2


def test_ssv2_class_folders_with_underscores_and_brackets(tmp_path):
    lists = write_lists(
        tmp_path / "lists",
        {
            "train": ["Putting something onto a slanted surface but it doesn't glide down/5"],
            "val": ["Putting something, something and something on the table/6"],
            "test": ["Twisting (wringing) something wet until water comes out/7"],
        },
    )
    touch(
        tmp_path / "v",
        "Putting [something] onto a slanted surface but it doesnt glide down/5.webm",
        "Putting_something,_something_and_something_on_the_table/6.webm",
        "test/Twisting (wringing) something wet until water comes out/7.webm",
    )
    assert len(find_dataset("ssv2-cmn", root=tmp_path / "v", split_files=lists).index) == 3


def test_otam_classes_go_by_id_or_by_label(tmp_path):
    label = load_split("ssv2-otam").of("test")[18].name
    lists = write_lists(tmp_path / "lists", {"test": ["test18/195025", "test18/14774", "test3/28209"]})
    touch(tmp_path / "v", "test18/195025.webm", f"test/{label}/14774.webm", "28209.webm")
    videos = find_dataset("ssv2-otam", root=tmp_path / "v", split_files=lists)
    assert sorted(videos.index.keys) == ["test18/14774", "test18/195025", "test3/28209"]
    assert videos.index.classes.count(label) == 2


def test_kinetics_names_cut_to_the_id(tmp_path):
    lists = write_lists(tmp_path / "lists", {"test": ["busking/-YGUR0HXgyE_000085_000095"]})
    touch(tmp_path / "v", "busking/-YGUR0HXgyE.mp4")
    index = find_dataset("kinetics-cmn", root=tmp_path / "v", split_files=lists).index
    assert (index.keys, index.paths) == (("busking/-YGUR0HXgyE_000085_000095",), ("busking/-YGUR0HXgyE.mp4",))


def test_splits_that_choose_videos_need_their_lists(tmp_path):
    touch(tmp_path, "1.webm")
    with pytest.raises(ExtractError, match=r"--split-files DIR with .*trainlist.*splits/ssv2_OTAM"):
        find_dataset("ssv2-otam", root=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "vallist03.txt").unlink(), r"has no vallist\*.txt"),
        (lambda d: (d / "vallist01.txt").touch(), "must hold one val list, but has 'vallist01.txt', 'vallist03.txt'"),
        (lambda d: (d / "vallist03.txt").write_text("\nno slash here\n"), "line 2: 'no slash here' must be"),
        (lambda d: (d / "vallist03.txt").write_text("juggling/1\n"), "line 1: class 'juggling' is not in hmdb51-arn"),
        (lambda d: (d / "vallist03.txt").write_text("pour/1\n"), "class 'pour' is in the test part"),
        (lambda d: (d / "vallist03.txt").write_text("eat/1\neat/1.avi\n"), "line 2: .* stands already at .*line 1"),
        (lambda d: (d / "vallist03.txt").write_bytes(b"eat/\xff\n"), "must be UTF-8"),
    ],
)
def test_wrong_list_files_are_named(tmp_path, change, message):
    lists = write_lists(tmp_path / "lists", {"test": ["pour/x"]})
    change(lists)
    touch(tmp_path / "v", "pour/x.avi")
    with pytest.raises(ExtractError, match=message):
        find_dataset("hmdb51", root=tmp_path / "v", split_files=lists)


# --- folders


def test_a_folder_with_splits(tmp_path):
    touch(tmp_path, "train/walk/2.mp4", "train/walk/10.mp4", "train/run/1.mp4", "Val/jump/1.mkv", "other/x/1.mp4")
    frames(tmp_path, "test/swim/7")
    videos = find_dataset("folder", root=tmp_path)
    assert videos.index.keys == (
        *("train/run/1.mp4", "train/walk/2.mp4", "train/walk/10.mp4", "Val/jump/1.mkv", "test/swim/7"),
    )
    assert videos.index.splits == ("train", "train", "train", "val", "test")
    assert videos.split_scheme == "folder"
    assert videos.ignored == {"folders beside train, val and test": 1}
    assert coverage_lines("folder", videos.coverage)[0] == "folder train: 3 videos in 2 classes"


def test_a_folder_of_few_classes_is_all_test(tmp_path):
    touch(tmp_path, *(f"class{n}/{v}.mp4" for n in range(14) for v in range(2)))
    videos = find_dataset("folder", root=tmp_path)
    assert set(videos.index.splits) == {"test"}
    assert videos.split_scheme == "folder-all-test"
    assert any("all 14 classes are test classes" in note for note in videos.notes)


@pytest.mark.parametrize(("n_classes", "sizes"), [(15, (5, 5, 5)), (24, (14, 5, 5)), (50, (30, 10, 10))])
def test_a_folder_of_many_classes_is_split_by_the_seed(tmp_path, n_classes, sizes):
    touch(tmp_path, *(f"class{n}/{v}.mp4" for n in range(n_classes) for v in range(2)))
    videos = find_dataset("folder", root=tmp_path, seed=3)
    assert tuple(len(videos.index.classes_of(s)) for s in ("train", "val", "test")) == sizes
    assert videos.split_scheme == "folder-seed3"
    assert find_dataset("folder", root=tmp_path, seed=3).index == videos.index
    assert find_dataset("folder", root=tmp_path, seed=4).index != videos.index
    assert any("seed 3: train" in note for note in videos.notes)


@pytest.mark.parametrize("video", ["train/1.mp4", "train/1/001.jpg"])
def test_a_class_may_be_called_train(tmp_path, video):
    touch(tmp_path, video, "bus/1.mp4", "car/1.mp4")
    assert find_dataset("folder", root=tmp_path).index.classes_of("test") == ["bus", "car", "train"]


def test_an_empty_folder_and_one_class_are_errors(tmp_path):
    with pytest.raises(ExtractError, match=r"no videos in .*expected ROOT/\{train,val,test\}/CLASS/VIDEO"):
        find_dataset("folder", root=tmp_path)
    touch(tmp_path, "walk/1.mp4", "walk/2.mp4")
    with pytest.raises(ExtractError, match=r"has only one class, 'walk'.* at least two"):
        find_dataset("folder", root=tmp_path)


def test_the_error_for_videos_without_classes_says_what_was_left_out(tmp_path):
    touch(tmp_path, "1.mp4", "2.mkv", "readme.txt")
    with pytest.raises(ExtractError, match=r"left out: stray files \(1\), videos outside a class folder \(2\)"):
        find_dataset("folder", root=tmp_path)


def test_options_of_other_data_sets_are_refused_before_anything_is_rendered(tmp_path):
    with pytest.raises(
        ExtractError, match="--split-files belongs to data sets with a published split, not to 'motion'"
    ):
        find_dataset("motion", root=tmp_path / "m", split_files=tmp_path)
    assert not (tmp_path / "m").exists()


def test_a_class_in_two_splits_is_an_error(tmp_path):
    touch(tmp_path, "train/walk/1.mp4", "test/walk/2.mp4", "train/run/1.mp4")
    with pytest.raises(ExtractError, match="class 'walk' is in train and in test"):
        find_dataset("folder", root=tmp_path)


def test_links_may_point_inside_the_root_alone(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "walk/1.mp4", "run/1.mp4", "swim/f/1.jpg")
    touch(outside, "secret.mp4", "frames/1.jpg", "class/1.mp4")
    (root / "walk/out.mp4").symlink_to(outside / "secret.mp4")
    (root / "walk/up.mp4").symlink_to("../../outside/secret.mp4")
    (root / "walk/frames").symlink_to(outside / "frames")
    (root / "walk/loop.mp4").symlink_to("loop.mp4")
    (root / "swim/f/2.jpg").symlink_to(outside / "frames/1.jpg")
    (root / "class").symlink_to(outside / "class")
    (root / "run/2.mp4").symlink_to("1.mp4")
    link = tmp_path / "link"
    link.symlink_to(root)
    videos = find_dataset("folder", root=link)
    assert videos.index.keys == ("run/1.mp4", "run/2.mp4", "walk/1.mp4")
    assert videos.ignored["links that leave the root"] == 6
    assert any("'walk/out.mp4'" in note for note in videos.notes)


def test_a_name_that_is_not_utf8_is_left_out(tmp_path):
    touch(tmp_path, "walk/1.mp4", "run/1.mp4", "run/übung 'x' %d -y.mp4")
    (tmp_path / "run" / "\udcff.mp4").touch()
    videos = find_dataset("folder", root=tmp_path)
    assert len(videos.index) == 3
    assert videos.ignored == {"names that are not UTF-8": 1}


def test_the_embedded_data_set_is_rendered_once(tmp_path):
    root = tmp_path / "motion"
    render_motion(root, clips_per_class={"train": 1, "val": 1, "test": 2}, workers=2)
    videos = find_dataset("motion", root=root)
    assert videos.index == find_dataset("motion", root=root).index
    assert videos.index.classes_of("test") == sorted(MOTION_CLASSES["test"])
    assert videos.index.splits.count("test") == 2 * len(MOTION_CLASSES["test"])
    assert (videos.split_scheme, videos.flip_keeps_class, videos.ignored) == ("motion", False, {})


# --- CSV files


def test_a_csv_file_with_splits(tmp_path):
    touch(tmp_path / "v", "a.mp4", "sub/b.mp4", "c.mp4")
    csv = tmp_path / "mine.csv"
    csv.write_text(
        "\ufeffPath, class, split\na.mp4,walk,train\n"
        'sub/../sub/b.mp4,"run, fast",TEST\nc.mp4,swim,val\ngone.mp4,swim,val\n'
    )
    videos = find_dataset(str(csv), root=tmp_path / "v")
    assert videos.name == "mine.csv"
    assert videos.split_scheme == "csv"
    assert rows(videos) == [
        ("train", "walk", "a.mp4", "a.mp4"),
        ("val", "swim", "c.mp4", "c.mp4"),
        ("val", "swim", "gone.mp4", "gone.mp4"),
        ("test", "run, fast", "sub/b.mp4", "sub/b.mp4"),
    ]
    assert any("listed videos that are not there: 1 ('gone.mp4')" in note for note in videos.notes)
    assert videos.absent == ("gone.mp4",)


def test_a_csv_file_without_splits_lies_beside_its_videos(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "mine.csv").write_text("class,path\nwalk,a.mp4\nrun,b.mp4\n")
    videos = find_dataset(str(tmp_path / "mine.csv"))
    assert videos.split_scheme == "csv-all-test"
    assert videos.root == tmp_path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a line that names the columns"),
        ("file,class\na.mp4,walk\n", "there is no 'path' in: file, class"),
        ("path,class\n/etc/passwd,walk\n", "line 2: path '/etc/passwd' must be relative"),
        ("path,class\na.mp4,walk\n../a.mp4,walk\n", "line 3: path '../a.mp4' must be relative"),
        ("path,class\nx/../../a.mp4,walk\n", "must be relative to the root"),
        ("path,class\n.,walk\n", "must be relative to the root"),
        ("path,class\na.mp4,\n", "line 2: the class must not be empty"),
        ("path,class,split\na.mp4,walk,dev\n", "line 2: split 'dev' must be one of train, val, test"),
        ("path,class\na.mp4,walk\na.mp4,run\n", "line 3: 'a.mp4' stands already in line 2"),
        ("path,class\na.mp4,walk\nb.mp4,run\nx/../a.mp4,run\n", "line 4: 'a.mp4' stands already in line 2"),
        ("path,class\na.mp4,walk\nb.mp4,walk\n", "only one class, 'walk'"),
        ("path,class\nx.mp4,walk\ny.mp4,run\n", "none of the 2 videos"),
        ("path,class,split\na.mp4,walk,train\nb.mp4,walk,test\nb2.mp4,run,test\n", "class 'walk' is in train and in"),
    ],
)
def test_wrong_csv_files_are_named_with_the_line(tmp_path, text, message):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ExtractError, match=message):
        find_dataset(str(tmp_path / "mine.csv"))


def test_a_csv_path_through_a_link_out_of_the_root_is_refused(tmp_path):
    touch(tmp_path / "v", "a.mp4", "b.mp4")
    touch(tmp_path / "outside", "s.mp4")
    (tmp_path / "v/away").symlink_to(tmp_path / "outside")
    (tmp_path / "mine.csv").write_text("path,class\na.mp4,walk\nb.mp4,run\naway/s.mp4,run\n")
    videos = find_dataset(str(tmp_path / "mine.csv"), root=tmp_path / "v")
    assert videos.index.keys == ("b.mp4", "a.mp4")
    assert videos.ignored == {"links that leave the root": 1}


# --- names and roots


@pytest.mark.parametrize(
    ("name", "message"),
    [("hmbd51", "did you mean hmdb51"), ("zzz", "known: hmdb51, ucf101"), ("gone.csv", "gone.csv does not exist")],
)
def test_unknown_data_sets(name, message):
    with pytest.raises(ExtractError, match=message):
        find_dataset(name)


def test_default_roots(tmp_path, monkeypatch):
    monkeypatch.delenv("MASTAF_DATA", raising=False)
    assert default_root("hmdb51").as_posix() == "data/hmdb51"
    monkeypatch.setenv("MASTAF_DATA", str(tmp_path))
    assert default_root("hmdb51") == tmp_path / "hmdb51"
    with pytest.raises(ExtractError, match=r"hmdb51.* does not exist; give --root DIR, or set MASTAF_DATA"):
        find_dataset("hmdb51")
    touch(tmp_path, "file")
    with pytest.raises(ExtractError, match="is not a folder"):
        find_dataset("folder", root=tmp_path / "file")


def test_list_files_make_no_sense_for_a_folder(tmp_path):
    with pytest.raises(ExtractError, match="--split-files belongs to data sets with a published split"):
        find_dataset("folder", root=tmp_path, split_files=tmp_path)
