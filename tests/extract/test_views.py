"""Views of a decoded clip."""

import numpy as np
import pytest
from mastaf.extract.errors import ExtractError
from mastaf.extract.views import VIEWS, apply_view, check_views


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)


def test_plain_changes_nothing(pixels: np.ndarray) -> None:
    assert (apply_view("plain", pixels) == pixels).all()


def test_flip_mirrors_columns_and_keeps_channels(pixels: np.ndarray) -> None:
    flipped = apply_view("flip", pixels)
    for column in range(5):
        assert (flipped[..., column, :] == pixels[..., 4 - column, :]).all()


@pytest.mark.parametrize("name", list(VIEWS))
def test_every_view_gives_pixels_that_torch_can_wrap(name: str, pixels: np.ndarray) -> None:
    view = apply_view(name, pixels)
    assert (view.shape, view.dtype) == (pixels.shape, np.uint8)
    assert view.flags.c_contiguous
    assert (apply_view(name, view) == pixels).all()  # plain and flip undo themselves


def test_unknown_view_suggests_the_closest(pixels: np.ndarray) -> None:
    with pytest.raises(ExtractError, match="did you mean flip"):
        apply_view("flop", pixels)


@pytest.mark.parametrize("views", [(), ("flip",), ("flip", "plain"), ("plain", "plain"), ("plain", "flip", "flip")])
def test_views_are_distinct_and_begin_with_plain(views: tuple[str, ...]) -> None:
    with pytest.raises(ExtractError, match="must be distinct and begin with plain"):
        check_views(views)
