"""Names on disk against published names."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.extract.datasets.matching import match_listed
from mastaf.extract.datasets.naming import Spellings, fold, natural, squeeze, stem_of
from mastaf.extract.errors import ExtractError
from mastaf.extract.splits.table import SplitClass

ROOT = Path("/videos")
A, B = SplitClass("test", "pour", 2, "test0"), SplitClass("test", "sit", 2, "test1")


def match(listed, present, dataset="hmdb51"):
    found = match_listed(dataset, listed, [(owner, ROOT / path) for owner, path in present], root=ROOT)
    return {entry: path.relative_to(ROOT).as_posix() for entry, path in found.items()}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.avi", "a"),
        ("a.WEBM", "a"),
        ("a", "a"),
        ("1.2_kick", "1.2_kick"),
        ("x.avi.mp4", "x.avi"),
        (".mp4", ".mp4"),
        ("a.txt", "a.txt"),
    ],
)
def test_only_a_videos_extension_is_taken_off(name, stem):
    assert stem_of(name) == stem


def test_spellings_prefer_the_exact_name():
    names = Spellings([("Brush_hair", 1), ("brush_hair", 2)])
    assert names.find("brush_hair") == (2, 0)
    assert names.find("Brush_hair") == (1, 0)
    assert names.find("BRUSH HAIR") is None  # it could be either


@pytest.mark.parametrize(("name", "looseness"), [("brush hair", 1), ("BRUSH_HAIR", 1), ("BrushHair", 2), ("x", None)])
def test_spellings_across_case_spaces_and_signs(name, looseness):
    found = Spellings([("brush_hair", "b"), ("hug", "h")]).find(name)
    assert found == (None if looseness is None else ("b", looseness))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=6), st.text(max_size=8))
def test_spellings_agree_with_a_search_through_all_names(names, wanted):
    expected = None
    for looseness, level in enumerate((str, fold, squeeze)):
        fitting = [name for name in names if level(name) == level(wanted) and level(name)]
        if len(fitting) == 1:
            expected = (fitting[0], looseness)
            break
    assert Spellings([(name, name) for name in names]).find(wanted) == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 300)), unique=True, max_size=9))
def test_natural_order_is_the_order_of_the_numbers(items):
    names = [f"{letter}{number}.mp4" for letter, number in items]
    assert sorted(names, key=natural) == [f"{letter}{number}.mp4" for letter, number in sorted(items)]


def test_a_listed_video_is_found_in_its_class_folder_or_outside():
    found = match([(A, "x_1"), (B, "y_2")], [(A, "pour/x 1.mp4"), (None, "Y_2.webm"), (B, "sit/other.avi")])
    assert found == {("pour", "x_1"): "pour/x 1.mp4", ("sit", "y_2"): "Y_2.webm"}


def test_the_same_name_in_two_classes_is_told_apart_by_the_folder_alone():
    listed = [(A, "7"), (B, "7")]
    assert match(listed, [(B, "sit/7.mp4"), (None, "7.mp4")]) == {("sit", "7"): "sit/7.mp4"}


@pytest.mark.parametrize("second", [(A, "pour/x.mp4"), (None, "x.avi"), (A, "train/pour/x.avi")])
def test_two_videos_for_one_listed_name_are_an_error_that_names_both(second):
    with pytest.raises(ExtractError, match=rf"'pour/x.avi' and '{second[1]}'"):
        match([(A, "x")], [(A, "pour/x.avi"), second])


def test_the_exact_name_beats_a_loose_one():
    present = [(A, "pour/X.avi"), (A, "pour/x.mp4")]
    assert match([(A, "x")], present) == match([(A, "x")], present[::-1]) == {("pour", "x"): "pour/x.mp4"}


def test_kinetics_clips_may_be_named_by_their_id_but_not_by_another_segment():
    listed = [(A, "-kYzxMKp514_000086_000096"), (A, "1663fIopl7c_000035_000045")]
    present = [(A, "pour/-kYzxMKp514.mp4"), (A, "pour/1663fIopl7c_000001_000011.mp4")]
    assert match(listed, present, "kinetics-cmn") == {("pour", "-kYzxMKp514_000086_000096"): "pour/-kYzxMKp514.mp4"}
    assert match(listed, present, "hmdb51") == {}


def test_a_published_name_beats_an_id_alone():
    clip = "-kYzxMKp514_000086_000096"
    present = [(A, f"pour/{clip}.mp4"), (A, "pour/-kYzxMKp514.mp4")]
    expected = {("pour", clip): f"pour/{clip}.mp4"}
    assert match([(A, clip)], present, "kinetics-cmn") == expected
    assert match([(A, clip)], present[::-1], "kinetics-cmn") == expected
