"""Which token is which place of a clip: from the configuration, and then proved on the network itself.

    a clip of 4 x 16 x 16 pixels, tubelets of 2 x 8 x 8: a grid (t, h, w) = (2, 2, 2), one class token in front

    token   0      1       2       3       4       5       6       7       8
    thw   class  0,0,0   0,0,1   0,1,0   0,1,1   1,0,0   1,0,1   1,1,0   1,1,1
    hwt   class  0,0,0   1,0,0   0,0,1   1,0,1   0,1,0   1,1,0   0,1,1   1,1,1     (TimeSformer)

Configurations tell the grid, but neither the order nor the tokens in front. So one tubelet at a time is changed, and
the only token that changes is its own: where it lies is seen, not guessed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ExtractError

_ORDERS = ("thw", "hwt")
_ROUNDING = 1e-3  # of the largest change; what is below is arithmetic, not content


@dataclass(frozen=True, kw_only=True)
class TokenLayout:
    """prefix: tokens in front (class, registers); grid: (t, h, w) of the tokens of one input; order: `thw` or `hwt`,
    slowest first."""

    prefix: int
    grid: tuple[int, int, int]
    order: str

    def to_cube(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Tokens [b, prefix + L, c] -> cube [b, c, t, h, w] of `grid` (the layout's own, or a coarser one)."""
        places = dict(zip("thw", grid, strict=True))
        cube = tokens[:, self.prefix :].unflatten(1, [places[axis] for axis in self.order])  # [b, *order, c]
        at = {axis: 1 + number for number, axis in enumerate(self.order)}
        return cube.permute(0, 4, at["t"], at["h"], at["w"])  # [b, c, t, h, w]

    def to_tokens(self, cube: Tensor) -> Tensor:
        """Cube [b, c, t, h, w] -> tokens [b, L, c], for a network without tokens in front."""
        at = {"t": 2, "h": 3, "w": 4}
        return cube.permute(0, *(at[axis] for axis in self.order), 1).flatten(1, 3)  # [b, L, c]

    def coarser(self, count: int, what: str) -> tuple[int, int, int]:
        """The grid (t, h, w) of `count` tokens at a later stage, whose height and width may be halved a few times."""
        t, h, w = self.grid
        while count < self.prefix + t * h * w and max(h, w) > 1:
            h, w = -(-h // 2), -(-w // 2)  # sides that do not divide are padded
        if count == self.prefix + t * h * w:
            return t, h, w
        t, h, w = self.grid
        raise ExtractError(
            f"{what} must give {self.prefix} + {t} x {h} x {w} tokens, or as many with height and width halved, but "
            f"gave {count}; it is no encoder that keeps the places of a clip"
        )


def find_layout(
    embed: Callable[[Tensor], Tensor], *, grid: tuple[int, int, int], patch: tuple[int, int, int], what: str
) -> TokenLayout:
    """The layout of the tokens that `embed` makes of clips [b, 3, frames, size, size].

    grid: (t, h, w) by the configuration; patch: pixels of a tubelet, (frames, height, width). ExtractError, with
    what was seen, unless each tubelet has one token of its own in one of the known orders.
    """
    size = [side * step for side, step in zip(grid, patch, strict=True)]
    corners = [
        (0, 0, 0),
        (min(1, grid[0] - 1), 0, 0),
        (0, min(1, grid[1] - 1), 0),
        (0, 0, min(1, grid[2] - 1)),
        (grid[0] - 1, grid[1] - 1, grid[2] - 1),
    ]
    noise = torch.rand(3, *patch, generator=torch.Generator().manual_seed(0)) + 0.5  # [3, frames, height, width]
    clips = torch.zeros(len(corners) + 1, 3, *size)  # [b, 3, frames, size, size]
    for clip, corner in zip(clips[1:], corners, strict=True):
        places = [slice(at * step, (at + 1) * step) for at, step in zip(corner, patch, strict=True)]
        clip[:, places[0], places[1], places[2]] = noise
    with torch.no_grad():
        tokens = embed(clips)  # [b, n, c]
    n, wanted = tokens.shape[1], grid[0] * grid[1] * grid[2]
    prefix = n - wanted
    if prefix < 0:
        raise ExtractError(
            f"{what} must make {_words(grid)} = {wanted} tokens of a clip by its configuration, but made {n}"
        )
    difference = (tokens[1:] - tokens[:1]).abs().amax(dim=2)  # [corners, n]
    changed = difference > _ROUNDING * difference.amax()  # [corners, n]
    seen = [row.nonzero().flatten().tolist() for row in changed]
    for order in _ORDERS:
        if seen == [[prefix + _index(corner, grid, order)] for corner in corners]:
            return TokenLayout(prefix=prefix, grid=grid, order=order)
    raise ExtractError(
        f"{what} must have one token for each of {_words(grid)} tubelets behind {prefix} others, but changing the "
        f"tubelets {', '.join(map(str, corners))} changed the tokens {_shown(seen)}; its tokens cannot become a cube"
    )


def _index(corner: Sequence[int], grid: Sequence[int], order: str) -> int:
    """Place of tubelet (t, h, w) among the tokens, integers alone."""
    place = 0
    for axis in order:
        number = "thw".index(axis)
        place = place * grid[number] + corner[number]
    return place


def _words(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))


def _shown(seen: Sequence[Sequence[int]]) -> str:
    return ", ".join(str(list(row[:4]))[:-1] + (", ...]" if len(row) > 4 else "]") for row in seen)
