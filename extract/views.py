"""Views of a clip: what a video is shown as, decoded once and then changed in memory.

View 0 of a store is `plain` and the only one that evaluation reads.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ..cache.console import unknown_name
from .errors import ExtractError


def _plain(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _flip(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1, :])


# name -> uint8 [..., h, w, 3] to uint8 [..., h, w, 3]
VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"plain": _plain, "flip": _flip}


def check_views(views: Sequence[str]) -> None:
    """ExtractError unless `views` are distinct names of VIEWS, `plain` first."""
    for view in views:
        if view not in VIEWS:
            raise ExtractError(unknown_name("view", view, VIEWS))
    if not views or views[0] != "plain" or len(set(views)) != len(views):
        raise ExtractError(f"views ({','.join(views)}) must be distinct and begin with plain, as in --views plain,flip")


def apply_view(name: str, pixels: np.ndarray) -> np.ndarray:
    """The view `name` of uint8 pixels `[..., h, w, 3]`, same shape; `flip` mirrors left and right in every frame."""
    if name not in VIEWS:
        raise ExtractError(unknown_name("view", name, VIEWS))
    return VIEWS[name](pixels)
