"""Views of a clip: what a video is shown as, decoded once and then changed in memory.

View 0 of a store is `plain` and the only one that evaluation reads.
"""

from collections.abc import Callable

import numpy as np

from ..cache.console import unknown_name
from .errors import ExtractError


def _plain(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _flip(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1, :])


# name -> uint8 [..., h, w, 3] to uint8 [..., h, w, 3]
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"plain": _plain, "flip": _flip}


def apply_view(name: str, pixels: np.ndarray) -> np.ndarray:
    """The view `name` of uint8 pixels `[..., h, w, 3]`, same shape; `flip` mirrors left and right in every frame."""
    if name not in VIEWS:
        raise ExtractError(unknown_name("view", name, VIEWS))
    return VIEWS[name](pixels)
