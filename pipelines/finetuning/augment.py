"""Changes of a clip that keep its class, for training. Each is drawn once a clip, never a frame."""

from collections.abc import Sequence

import numpy as np

from ..errors import PipelineError

AUGMENTATIONS = {
    "shift": "a random crop instead of the centre",
    "channels": "colour channels in a random order",
    "invert": "a negative, for every other clip",
    "flip": "left and right exchanged, for every other clip; some classes are directions",
    "speed": "a random part of the clip, four fifths or more of it, stretched over all frames",
}


def default_augmentations(dataset: str, flip_keeps_class: bool) -> tuple[str, ...]:
    """What suits a data set: colours mean nothing in `motion`, and something in real videos."""
    if dataset == "motion":
        return ("shift", "channels", "invert")
    return ("shift", "flip") if flip_keeps_class else ("shift",)


def check_augmentations(names: Sequence[str]) -> None:
    """Raise PipelineError for a name that is not in the table."""
    for name in names:
        if name not in AUGMENTATIONS:
            raise PipelineError(f"augment ('{name}') must be of {', '.join(AUGMENTATIONS)}")


def centre(clip: np.ndarray, size: int) -> np.ndarray:
    """uint8 [frames, side, side, 3] -> the centre [frames, size, size, 3], as extraction crops it."""
    first = (clip.shape[1] - size) // 2
    return clip[:, first : first + size, first : first + size]


def augment(clip: np.ndarray, names: Sequence[str], rng: np.random.Generator, *, size: int) -> np.ndarray:
    """uint8 [frames, side, side, 3] -> uint8 [frames, size, size, 3], size <= side; the centre unless shifted."""
    frames, side = clip.shape[:2]
    room = side - size
    top, left = (int((room + 1) * rng.random()) for _ in "yx") if "shift" in names else (room // 2, room // 2)
    clip = clip[:, top : top + size, left : left + size]  # [frames, size, size, 3]
    if "speed" in names:
        low, high = 0.2 * np.sort(rng.random(2)) + (0.0, 0.8)
        clip = clip[np.rint(np.linspace(low, high, frames) * (frames - 1)).astype(int)]
    if "channels" in names:
        clip = clip[..., np.argsort(rng.random(3))]
    if "invert" in names and rng.random() < 0.5:
        clip = 255 - clip
    if "flip" in names and rng.random() < 0.5:
        clip = clip[:, :, ::-1]
    return clip
