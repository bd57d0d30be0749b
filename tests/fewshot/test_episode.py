"""The two records that cross borders check themselves."""

import numpy as np
import pytest
import torch
from mastaf.fewshot.episodes.episode import Episode, EpisodeRows
from mastaf.fewshot.errors import FewShotError


def rows(**changes):
    parts = {
        "support": np.zeros((4, 3, 2), int),
        "query": np.zeros((4, 5), int),
        "labels": np.zeros((4, 5), int),
        "classes": np.zeros((4, 3), int),
    }
    return EpisodeRows(**{**parts, **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"query": np.zeros((4, 6), int)},
        {"query": np.zeros((3, 5), int), "labels": np.zeros((3, 5), int)},
        {"classes": np.zeros((4, 2), int)},
    ],
)
def test_rows_of_different_episodes_are_refused(change):
    with pytest.raises(FewShotError, match="first axes must agree"):
        rows(**change)


def test_rows_slice_and_show_shapes():
    assert len(rows()) == 4
    assert rows()[1:3].support.shape == (2, 3, 2)
    assert "support (4, 3, 2)" in repr(rows())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"support": torch.zeros(2, 3, 8, 1, 2, 2)}, r"support must be \[b, way, shot"),
        ({"query": torch.zeros(2, 4, 9, 1, 2, 2)}, r"agree in b and in"),
        ({"query": torch.zeros(3, 4, 8, 1, 2, 2)}, r"agree in b and in"),
        ({"labels": torch.zeros(2, 3, dtype=torch.long)}, r"labels must be \[b, q\]"),
        ({"class_ids": torch.zeros(2, 4, dtype=torch.long)}, r"class_ids \[b, way\]"),
    ],
)
def test_an_episode_of_parts_that_do_not_fit_is_refused(change, words):
    with pytest.raises(FewShotError, match=words):
        episode(**change)


def episode(**changes):
    parts = {
        "support": torch.zeros(2, 3, 1, 8, 1, 2, 2),
        "query": torch.zeros(2, 4, 8, 1, 2, 2),
        "labels": torch.zeros(2, 4, dtype=torch.long),
        "class_ids": torch.zeros(2, 3, dtype=torch.long),
    }
    return Episode(**{**parts, **changes})


def test_an_episode_tells_its_sizes_and_moves():
    here = episode()
    assert (here.way, here.shot, here.cube_shape) == (3, 1, (8, 1, 2, 2))
    half = here.to("cpu", torch.bfloat16)
    assert half.support.dtype == half.query.dtype == torch.bfloat16
    assert half.labels.dtype == torch.long
    assert "support (2, 3, 1, 8, 1, 2, 2)" in repr(here)
