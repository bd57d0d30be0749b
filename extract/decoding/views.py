"""From what was decoded once to the views of a video: which frames and crops they need, and how each is cut.

views plain, t1, topleft+t1, flip     frames of '' and t1, one after the other; crops centre and topleft
decoded [2 * m, 2, size, size, 3]     plain = frames '', crop centre;  topleft+t1 = frames t1, crop topleft;  ...
"""

from collections.abc import Sequence

import numpy as np

from ...cache.views import View, check_views, parse_view
from ..errors import ExtractError
from .sampling import jitter_indices, select_indices


class ViewCutter:
    """The views `names` of one video, cut from the frames and crops that all of them need.

    frames: of each view; sampling: the rule of views without jitter; key: the video's, seeds the draws. crops: what
    `cut` wants, names as in PixelRule; the centre, which `plain` shows, is the first.
    """

    def __init__(self, names: Sequence[str], *, frames: int, sampling: str, key: str) -> None:
        self._views = [parse_view(name) for name in names]
        self._frames, self._sampling, self._key = frames, sampling, key
        self._jitters = list(dict.fromkeys(view.jitter for view in self._views))
        self.crops = tuple(dict.fromkeys(view.crop for view in self._views))

    def choose(self, n: int) -> list[int]:
        """The frames that all views need of a video with n, m for each kind of jitter."""
        chosen: list[int] = []
        for jitter in self._jitters:
            if jitter:
                chosen += jitter_indices(n, self._frames, name=jitter, key=self._key)
            else:
                chosen += select_indices(self._sampling, n, self._frames, key=self._key)
        return chosen

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [views, m, size, size, 3] of the pixels [jitters * m, crops, size, size, 3] of `choose`'s frames.

        Without a copy where there is nothing to cut.
        """
        if self._views == [View()]:
            return pixels[None, :, 0]  # [1, m, h, w, 3]
        views = np.empty((len(self._views), self._frames, *pixels.shape[2:]), np.uint8)  # [views, m, h, w, 3]
        for out, view in zip(views, self._views, strict=True):
            first = self._jitters.index(view.jitter) * self._frames
            clip = pixels[first : first + self._frames, self.crops.index(view.crop)]  # [m, h, w, 3]
            out[:] = clip[:, :, ::-1] if view.flip else clip
        return views


def check_sampling(views: Sequence[str], sampling: str) -> None:
    """CacheError unless the views can be; ExtractError when a view draws frames and `sampling` is a control."""
    check_views(views)
    drawn = [name for name in views if parse_view(name).jitter]
    if drawn and sampling != "even":
        raise ExtractError(
            f"sampling ({sampling}) must be even with view '{drawn[0]}', which draws frames by a rule of its own; drop "
            f"{' and '.join(drawn)} from --views, or --sampling"
        )
