"""Attention maps [t, h, w] laid over the frames that they are about: pure numpy, and PNG bytes.

    map [t, h, w]  --each position covers its share of frames and picture-->  weights [m, height, width]
    frame in grey  --blended with the colour of its weight-->                 pictures, uint8 RGB

The frames lose their colour under a map, so that every colour there is one of the colour map.
"""

from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from ...cache.extras import require_extra
from ..errors import PipelineError

COLOURS = "inferno"  # even steps of a weight look even, also in print and to the colour-blind
# How much of a frame's picture the colours cover, at the scale's lower end and at its upper one; and its middle grey
# and contrast there: a bright place in a frame must not look like a large weight.
_COVER = (0.5, 0.8)
_MIDDLE, _CONTRAST = 110, 0.6
_EVEN = 1e-3  # maps whose weights differ by less, relative to the largest, are even

Pictures = NDArray[np.uint8]  # RGB


@dataclass(frozen=True)
class Scale:
    """What colours mean: the weights at both ends of the colour map, and the words for them.

    relative: weights are in parts of an even spread (1: no position stands out), else as the head gives them.
    """

    low: float
    high: float
    relative: bool

    @property
    def is_even(self) -> bool:
        """Whether there is nothing to tell apart."""
        return self.high - self.low <= _EVEN * max(abs(self.high), abs(self.low))

    @property
    def words(self) -> str:
        """What the numbers of the scale are."""
        return "attention, in multiples of an even spread" if self.relative else "attention, as the head gives it"

    def place(self, weights: NDArray[np.floating]) -> NDArray[np.float32]:
        """Weights of any shape from 0, at the lower end, to 1; all 0.5 where the scale is even."""
        if self.is_even:
            return np.full(weights.shape, 0.5, np.float32)
        return np.clip((weights - self.low) / (self.high - self.low), 0, 1).astype(np.float32)


def scale_of(*maps: NDArray[np.floating]) -> tuple[Scale, list[NDArray[np.float32]]]:
    """One scale for several maps [t, h, w] that are to be compared, and the maps in its numbers.

    Maps that each sum to 1 are told in multiples of 1 / (t h w), so that those of cubes of any size compare.
    """
    if not maps or not all(np.isfinite(map_).all() for map_ in maps):
        raise PipelineError("maps must be one or more, of finite numbers")
    relative = all(np.isclose(map_.sum(), 1, atol=1e-2) for map_ in maps)
    told = [(map_ * map_.size if relative else map_).astype(np.float32) for map_ in maps]
    low, high = min(float(m.min()) for m in told), max(float(m.max()) for m in told)
    return Scale(low, high, relative), told


def spread(map_: NDArray[np.floating], frames: int, height: int, width: int) -> NDArray[np.float32]:
    """A map [t, h, w] at every pixel of its frames: [frames, height, width].

    Step i of t is shown on the frames whose middles lie in it. In space a position covers its rectangle, with soft
    edges: sharp ones look like things in the picture, and blurred maps look finer than they are.
    """
    t = map_.shape[0]
    steps = (2 * np.arange(frames) + 1) * t // (2 * frames)  # [frames]
    rows, columns = _between(map_.shape[1], height), _between(map_.shape[2], width)  # [height, h], [width, w]
    shown = rows @ map_.astype(np.float32) @ columns.T  # [t, height, width]
    return shown[steps].astype(np.float32)  # [frames, height, width]


def lay_over(frames: Pictures, map_: NDArray[np.floating], scale: Scale) -> Pictures:
    """Frames uint8 RGB [m, height, width, 3] under a map [t, h, w] in the numbers of a scale: the same shape.

    Any t, h and w; the map covers the whole frames.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise PipelineError(f"frames ({frames.dtype} {frames.shape}) must be uint8 [m, height, width, 3]")
    if map_.ndim != 3 or not map_.size:
        raise PipelineError(f"map {map_.shape} must be [t, h, w]")
    placed = scale.place(spread(map_, *frames.shape[:3]))  # [m, height, width]
    grey = frames @ np.array([0.299, 0.587, 0.114], np.float32)  # [m, height, width]
    return _blend(_MIDDLE + _CONTRAST * (grey - 127), placed)


def key_of_colours(width: int, height: int) -> Pictures:
    """The scale's colours, low at the left, over the middle grey of a frame: uint8 RGB [height, width, 3]."""
    placed = np.broadcast_to(np.linspace(0, 1, width, dtype=np.float32), (1, height, width))
    return _blend(np.full((1, height, width), _MIDDLE, np.float32), placed)[0]


def overlay_png(frames: Pictures, map_: NDArray[np.floating], *, scale: Scale | None = None, columns: int = 8) -> bytes:
    """A PNG of at most `columns` frames of uint8 RGB [m, height, width, 3], evenly chosen, under a map [t, h, w].

    scale: of several pictures that are to be compared, with maps in its numbers (see `scale_of`); else the map's own.
    """
    if scale is None:
        scale, (map_,) = scale_of(map_)
    laid = lay_over(frames, map_, scale)[choose(len(frames), columns)]
    return png_bytes(np.concatenate(list(laid), axis=1))  # [height, k * width, 3]


def choose(m: int, most: int) -> list[int]:
    """At most `most` of the numbers 0..m-1, evenly spread, first and last included where there are two."""
    k = min(m, most)
    return [i * (m - 1) // max(k - 1, 1) for i in range(k)]


def png_bytes(picture: Pictures) -> bytes:
    """A picture uint8 RGB [height, width, 3] as a PNG file."""
    require_pictures()
    from matplotlib.image import imsave

    found = BytesIO()
    imsave(found, picture, format="png")
    return found.getvalue()


def require_pictures() -> None:
    """Raise CacheError, with the command that installs it, where matplotlib is missing."""
    require_extra("matplotlib", extra="plots", wanted_by="a picture of attention")


def _blend(grey: NDArray[np.floating], placed: NDArray[np.float32]) -> Pictures:
    """Grey pictures [m, height, width] (0 to 255) under the colours of places 0 to 1 of the same shape."""
    colours = _table()[np.rint(placed * 255).astype(np.uint8)]  # [m, height, width, 3]
    cover = (_COVER[0] + (_COVER[1] - _COVER[0]) * placed)[..., None]  # [m, height, width, 1]
    return np.rint(grey[..., None] * (1 - cover) + colours * cover).astype(np.uint8)


@cache
def _table() -> NDArray[np.float32]:
    """The colour map, [256, 3], 0 to 255."""
    require_pictures()
    from matplotlib import colormaps

    colours = np.asarray(colormaps[COLOURS](np.arange(256)), np.float32)[:, :3]  # [256, 3]
    return (255 * colours).astype(np.float32)


def _between(positions: int, pixels: int) -> NDArray[np.float32]:
    """Weights [pixels, positions] of positions at pixels: a position's own around its middle, then over to the next."""
    at = np.clip((np.arange(pixels) + 0.5) * positions / pixels - 0.5, 0, positions - 1)  # [pixels]
    left = np.minimum(at.astype(int), max(positions - 2, 0))  # [pixels]
    of_right = np.clip(2 * (at - left) - 0.5, 0, 1).astype(np.float32)  # [pixels]
    weights = np.zeros((pixels, positions), np.float32)
    weights[np.arange(pixels), np.minimum(left + 1, positions - 1)] = of_right
    weights[np.arange(pixels), left] += 1 - of_right
    return weights
