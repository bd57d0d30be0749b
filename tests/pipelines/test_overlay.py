"""Attention maps over frames: where each weight is shown, and what its colour means."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.explaining.overlay import choose, key_of_colours, lay_over, overlay_png, scale_of, spread

SIZES = st.integers(1, 5)


def spread_slowly(map_, frames, height, width):
    """The same with loops: a position's own weight in the middle half of its cell, then over to its neighbour."""

    def sides(pixel, pixels, positions):
        place = min(max((pixel + 0.5) * positions / pixels - 0.5, 0), positions - 1)
        first = int(place)
        part = min(max(2 * (place - first) - 0.5, 0), 1)
        return [(first, 1 - part), (min(first + 1, positions - 1), part)]

    t, h, w = map_.shape
    found = np.zeros((frames, height, width))
    for m in range(frames):
        step = int((m + 0.5) * t / frames)
        for y in range(height):
            for x in range(width):
                for row, part in sides(y, height, h):
                    for column, other in sides(x, width, w):
                        found[m, y, x] += part * other * map_[step, row, column]
    return found


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES, SIZES, st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_each_position_is_shown_where_it_is(t, h, w, frames, height, width, seed):
    map_ = np.random.default_rng(seed).random((t, h, w))
    found = spread(map_, frames, height, width)
    np.testing.assert_allclose(found, spread_slowly(map_, frames, height, width), atol=1e-5)


def test_the_brightest_place_of_a_picture_is_that_of_the_largest_weight():
    map_ = np.zeros((2, 3, 4))
    map_[1, 2, 0] = 1
    scale, (told,) = scale_of(map_)
    laid = lay_over(np.full((4, 30, 40, 3), 90, np.uint8), told, scale).astype(int).sum(-1)  # [m, height, width]
    assert [int(picture.max()) for picture in laid[:2]] == [int(laid.min())] * 2  # the first step: nothing stands out
    assert laid[2, 25, 5] == laid.max() == laid[3, 25, 5]
    assert laid[2, 5, 25] == laid.min()


def test_shares_are_told_in_multiples_of_an_even_spread_and_other_weights_as_they_are():
    even, sharp = np.full((1, 2, 2), 0.25), np.array([[[0.7, 0.1], [0.1, 0.1]]])
    scale, (first, second) = scale_of(even, sharp)
    assert scale.relative
    np.testing.assert_allclose(first, 1, rtol=1e-6)
    np.testing.assert_allclose(second, 4 * sharp, rtol=1e-6)
    assert (scale.low, scale.high) == pytest.approx((0.4, 2.8))
    gates = np.full((1, 2, 2), 0.9)
    scale, (told,) = scale_of(gates)
    assert not scale.relative
    np.testing.assert_allclose(told, gates, rtol=1e-6)
    assert scale.is_even
    assert (scale.place(told) == 0.5).all()


def test_a_png_holds_the_chosen_frames_side_by_side():
    from matplotlib.image import imread

    frames = np.zeros((5, 8, 6, 3), np.uint8)
    picture = imread(BytesIO(overlay_png(frames, np.full((1, 1, 1), 1.0), columns=3)), format="png")
    assert picture.shape[:2] == (8, 18)
    assert choose(5, 3) == [0, 2, 4]
    assert choose(2, 8) == [0, 1]
    assert choose(7, 1) == [0]


def test_the_legend_has_the_colours_of_the_pictures():
    scale, (told,) = scale_of(np.array([[[0.0, 1.0]]]))
    laid = lay_over(np.full((1, 4, 40, 3), 127, np.uint8), told, scale)[0, 0]  # [width, 3]
    legend = key_of_colours(50, 2)[0]  # [width, 3]
    assert np.abs(legend[0].astype(int) - laid[0]).max() <= 1
    assert np.abs(legend[-1].astype(int) - laid[-1]).max() <= 1


def test_what_is_no_map_or_no_frame_is_refused():
    frames, map_ = np.zeros((2, 4, 4, 3), np.uint8), np.ones((1, 1, 1))
    with pytest.raises(PipelineError, match="finite"):
        scale_of(np.array([[[np.nan]]]))
    with pytest.raises(PipelineError, match=r"must be uint8 \[m, height, width, 3\]"):
        overlay_png(frames.astype(float), map_)  # pyright: ignore[reportArgumentType]
    with pytest.raises(PipelineError, match=r"must be \[t, h, w\]"):
        overlay_png(frames, map_[0])
