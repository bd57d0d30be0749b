"""Names of views: every view has one, and everything else is refused with what to write."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mastaf.cache.errors import CacheError
from mastaf.cache.views import CENTRE, CROPS, View, check_views, flipped_views, parse_view

PARTS = {"crop": (*CROPS, ""), "jitter": ("", "t1", "t2", "t317"), "flip": ("", "flip")}


def test_every_view_is_its_parts_in_one_order() -> None:
    names = set()
    for crop, jitter, flip in itertools.product(*PARTS.values()):
        name = "+".join(part for part in (crop, jitter, flip) if part) or "plain"
        view = View(crop=crop or CENTRE, jitter=jitter, flip=bool(flip))
        assert (parse_view(name), view.name) == (view, name)
        names.add(name)
    assert len(names) == 9 * 4 * 2


@given(st.permutations(["bottomright", "t2", "flip"]))
def test_another_order_is_refused_with_the_right_one(parts: list[str]) -> None:
    name = "+".join(parts)
    if name == "bottomright+t2+flip":
        assert parse_view(name).name == name
        return
    with pytest.raises(CacheError, match=r"must be written bottomright\+t2\+flip"):
        parse_view(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("flop", "unknown view 'flop'; did you mean flip"),
        ("toplft", "did you mean topleft"),
        ("", "unknown view ''"),
        ("t0", "unknown view 't0'"),
        ("t01", "unknown view 't01'"),
        ("t12345", "unknown view 't12345'"),
        ("t١", "unknown view"),
        ("t1\n", "unknown view"),
        ("centre", "unknown view 'centre'"),
        ("t1+", "unknown view ''"),
        ("plain+t1", "must not combine plain"),
        ("t1+t2", "must have one of t1 and t2"),
        ("left+top", "must have one of left and top"),
        ("flip+flip", "must have one of flip and flip"),
    ],
)
def test_other_names_are_refused(name: str, message: str) -> None:
    with pytest.raises(CacheError, match=message):
        parse_view(name)


@pytest.mark.parametrize("views", [(), ("flip",), ("t1", "plain"), ("plain", "plain"), ("plain", "t1", "t1")])
def test_views_are_distinct_and_begin_with_plain(views: tuple[str, ...]) -> None:
    with pytest.raises(CacheError, match="must be distinct and begin with plain"):
        check_views(views)


def test_flipped_views_are_told_from_the_others() -> None:
    check_views(("plain", "flip", "t1", "topleft", "left+t1+flip"))
    assert flipped_views(("plain", "flip", "t1", "topleft", "left+t1+flip")) == ["flip", "left+t1+flip"]
