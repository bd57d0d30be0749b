"""Augmentations against slow, obvious versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.pipelines.errors import PipelineError
from mastaf.pipelines.finetuning.augment import AUGMENTATIONS, augment, check_augmentations, default_augmentations


def some_clip(frames: int = 8, side: int = 11) -> np.ndarray:
    """Every value differs from its neighbours in time, place and channel."""
    return np.random.default_rng(0).integers(0, 256, (frames, side, side, 3), dtype=np.uint8)


def draw(names, seed, **options):
    return augment(some_clip(), names, np.random.default_rng(seed), **({"size": 8} | options))


def windows(clip: np.ndarray, size: int) -> list[np.ndarray]:
    room = clip.shape[1] - size + 1
    return [clip[:, y : y + size, x : x + size] for y in range(room) for x in range(room)]


def test_nothing_asked_for_is_the_centre_crop():
    assert np.array_equal(draw([], 0, size=7), some_clip()[:, 2:9, 2:9])
    assert np.array_equal(draw([], 0, size=11), some_clip())


def test_shift_takes_every_window():
    seen = set()
    for seed in range(300):
        crop = draw(["shift"], seed)
        seen.add(next(n for n, window in enumerate(windows(some_clip(), 8)) if np.array_equal(crop, window)))
    assert seen == set(range(16))


def test_channels_takes_every_order():
    centre = draw([], 0)
    orders = [[a, b, 3 - a - b] for a in range(3) for b in range(3) if a != b]
    seen = set()
    for seed in range(200):
        clip = draw(["channels"], seed)
        seen.add(next(n for n, order in enumerate(orders) if np.array_equal(clip, centre[..., order])))
    assert seen == set(range(6))


@pytest.mark.parametrize(
    ("name", "change"), [("invert", lambda clip: 255 - clip), ("flip", lambda clip: clip[:, :, ::-1])]
)
def test_invert_and_flip_change_about_half_of_the_clips(name, change):
    centre = draw([], 0)
    changed = [np.array_equal(draw([name], seed), change(centre)) for seed in range(200)]
    same = [np.array_equal(draw([name], seed), centre) for seed in range(200)]
    assert sum(changed) + sum(same) == 200
    assert 60 < sum(changed) < 140


@given(seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_speed_keeps_the_order_of_frames_and_most_of_the_clip(seed):
    clip = np.broadcast_to(np.arange(31, dtype=np.uint8)[:, None, None, None], (31, 2, 2, 3))
    times = augment(clip, ["speed"], np.random.default_rng(seed), size=2)[:, 0, 0, 0].astype(int)
    assert len(times) == 31
    assert (np.diff(times) >= 0).all()
    assert times[-1] - times[0] >= 0.8 * 30 - 1


def test_the_same_numbers_give_the_same_clip():
    names = list(AUGMENTATIONS)
    assert np.array_equal(draw(names, 5), draw(names, 5))
    assert not np.array_equal(draw(names, 5), draw(names, 6))


def test_directions_are_never_flipped_by_default():
    assert "flip" not in default_augmentations("motion", False)
    assert "flip" not in default_augmentations("ssv2-otam", False)
    assert "flip" in default_augmentations("hmdb51", True)
    assert "channels" not in default_augmentations("hmdb51", True)


def test_an_unknown_name_is_refused():
    check_augmentations(list(AUGMENTATIONS))
    with pytest.raises(PipelineError, match=r"augment \('mirror'\) must be of shift"):
        check_augmentations(["shift", "mirror"])
