"""From a motion programme to pixels: sprites, distractors, background, camera jitter and noise, all drawn at random
and alike for every class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .motion_programmes import FRAMES, Programme, Track

SIDE = 112
SPRITES = 3  # in every clip, so that their number does not tell the class; one at least stands still
_JITTER, _NOISE = 0.008, 0.03  # largest camera jitter (of the side) and deviation of pixel noise (of full range)
_RADIUS = (0.10, 0.145)  # of the side
_OUTSIDE = 0.05  # a sprite's centre leaves the frame by this much of the side at most
_MIDDLE = FRAMES // 2

# Shapes: signed distance from the outline (negative inside) at local places x, y; the sprite's radius is 1.
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _disc(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - 0.9


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.75


def _bar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.5)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    ax, ay = np.abs(x), np.abs(y)
    return np.minimum(np.maximum(ax - 1.0, ay - 0.35), np.maximum(ax - 0.35, ay - 1.0))


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(y, np.maximum(0.866 * x, -0.866 * x) - 0.5 * y) - 0.5


def _ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.6 * (np.hypot(x, y / 0.6) - 1.0)


_SHAPES: tuple[Shape, ...] = (_disc, _square, _bar, _cross, _triangle, _ellipse)


@dataclass(frozen=True, eq=False)
class Sprite:
    """Looks of one sprite. radius: of the side; colours: float [2, 3], 0 to 1; texture: which pattern mixes them."""

    radius: float
    shape: Shape
    colours: np.ndarray
    texture: int

    def mix(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Share (0 to 1) of the second colour at x, y. Each pattern has a direction, so that a turn shows."""
        if self.texture == 0:
            return (x > 0).astype(np.float32)  # halves
        if self.texture == 1:
            return (np.sin(7.0 * x) > 0).astype(np.float32)  # stripes
        if self.texture == 2:
            return (np.hypot(x - 0.4, y) < 0.35).astype(np.float32)  # a spot off the middle
        return np.clip(0.5 + 0.6 * x, 0, 1).astype(np.float32)  # a gradient


def render_clip(programme: Programme, rng: np.random.Generator, *, side: int = SIDE) -> np.ndarray:
    """One clip, uint8 RGB [frames, side, side, 3]. Every random choice comes from `rng`."""
    tracks = programme(rng)
    base = rng.random(3).astype(np.float32)
    sprites = [_draw_sprite(rng, base) for _ in range(SPRITES)]
    movers = _place(rng, tracks, [sprite.radius for sprite in sprites])
    still = _still(rng, movers, [sprite.radius for sprite in sprites])
    jitter = _JITTER * rng.random() * (2 * rng.random((FRAMES, 2)) - 1)  # [frames, 2]
    canvas = _background(rng, base, jitter, side)  # [frames, side, side, 3]
    # Those that stand are painted first, so that they never hide what happens.
    for sprite, track in zip(reversed(sprites), reversed(movers + still), strict=True):
        _paint(canvas, sprite, track, jitter)
    canvas *= 255
    spread = 255 * _NOISE * rng.random() * np.sqrt(12) / 256  # of uniform bytes, for that standard deviation
    grain = np.frombuffer(rng.bytes(canvas.size), dtype=np.uint8).reshape(canvas.shape)  # [frames, side, side, 3]
    canvas += np.float32(spread) * grain
    canvas += np.float32(0.5 - 127.5 * spread)
    return np.clip(canvas, 0, 255, out=canvas).astype(np.uint8)


def _draw_sprite(rng: np.random.Generator, base: np.ndarray) -> Sprite:
    """Looks that stand out: both colours are far from the background's, and from each other."""
    colours = [base]
    while len(colours) < 3:
        candidates = rng.random((12, 3)).astype(np.float32)
        nearest = np.min([np.abs(candidates - colour).mean(axis=1) for colour in colours], axis=0)  # [12]
        good = np.flatnonzero(nearest > 0.3)
        colours.append(candidates[good[0] if len(good) else nearest.argmax()])
    return Sprite(
        radius=_RADIUS[0] + (_RADIUS[1] - _RADIUS[0]) * rng.random(),
        shape=_SHAPES[int(rng.random() * len(_SHAPES))],
        colours=np.stack(colours[1:]),
        texture=int(rng.random() * 4),
    )


def _place(rng: np.random.Generator, tracks: list[Track], radii: list[float]) -> list[Track]:
    """Shift all tracks together by a random step: inside the frame in the middle of the clip, hardly outside ever.

    So the middle frame shows a mover almost anywhere, whatever its way: one frame does not tell the class.
    """
    turn = 2 * np.pi * rng.random()  # a random first angle, so that a turned shape tells nothing
    shifts = []
    for axis in ("x", "y"):
        places = np.stack([getattr(track, axis) for track in tracks])  # [movers, frames]
        edge = np.array(radii[: len(tracks)])
        low = max((edge - places[:, _MIDDLE]).max(), -_OUTSIDE - places.min())
        high = min((1 - edge - places[:, _MIDDLE]).min(), 1 + _OUTSIDE - places.max())
        shifts.append(low + (high - low) * rng.random())
    return [
        Track(t.x + shifts[0], t.y + shifts[1], t.angle + turn * (k + 1), t.scale, t.alpha)
        for k, t in enumerate(tracks)
    ]


def _still(rng: np.random.Generator, movers: list[Track], radii: list[float]) -> list[Track]:
    """Tracks of the sprites that stand, apart from where all others are in the middle of the clip, and only then:
    keeping clear of the whole way would show the way."""
    taken = [np.array([track.x[_MIDDLE], track.y[_MIDDLE]]) for track in movers]
    tracks = []
    for radius in radii[len(movers) :]:
        places = radius + (1 - 2 * radius) * rng.random((4, 2))  # [4, 2]
        gaps = np.abs(places[:, None] - np.stack(taken)[None]).max(axis=2).min(axis=1)  # [4]
        apart = np.flatnonzero(gaps > 0.25)
        x, y = places[apart[0] if len(apart) else gaps.argmax()]
        taken.append(np.array([x, y]))
        one = np.ones(FRAMES)
        tracks.append(Track(x * one, y * one, 2 * np.pi * rng.random() * one, one, one))
    return tracks


def _background(rng: np.random.Generator, base: np.ndarray, jitter: np.ndarray, side: int) -> np.ndarray:
    """float32 [frames, side, side, 3]: a colour plus waves of random direction and length, moved by the jitter."""
    contrast = 0.05 + 0.25 * rng.random()
    grid = (np.arange(side) + 0.5) / side
    x, y = grid - jitter[:, :1], grid - jitter[:, 1:]  # [frames, side], [frames, side]
    canvas = np.empty((FRAMES, side, side, 3), dtype=np.float32)
    canvas[:] = base
    for _ in range(3):
        fx, fy = 32 * (rng.random(2) - 0.5) * rng.random()
        across = (fx * x + 2 * np.pi * rng.random()).astype(np.float32)[:, None, :]  # [frames, 1, side]
        down = (fy * y).astype(np.float32)[:, :, None]  # [frames, side, 1]
        # sin(across + down) by its addition theorem: sines of lines, not of every pixel.
        wave = np.sin(across) * np.cos(down) + np.cos(across) * np.sin(down)  # [frames, side, side]
        if rng.random() < 0.3:
            wave = np.sign(wave)
        for channel, weight in enumerate(contrast / 3 * (2 * rng.random(3) - 1)):
            canvas[..., channel] += np.float32(weight) * wave
    return canvas


def _paint(canvas: np.ndarray, sprite: Sprite, track: Track, jitter: np.ndarray) -> None:
    """Paint one sprite over the frames [frames, side, side, 3], in place, with smooth edges."""
    side = canvas.shape[1]
    for frame in range(FRAMES):
        alpha, radius = track.alpha[frame], sprite.radius * track.scale[frame]
        if alpha <= 0:
            continue
        centre = np.array([track.x[frame], track.y[frame]]) + jitter[frame]
        low = np.floor((centre - 1.2 * radius) * side).astype(int).clip(0, side)
        high = np.ceil((centre + 1.2 * radius) * side).astype(int).clip(0, side)
        if (high <= low).any():
            continue
        x = ((np.arange(low[0], high[0], dtype=np.float32) + 0.5) / side - centre[0])[None, :] / radius
        y = ((np.arange(low[1], high[1], dtype=np.float32) + 0.5) / side - centre[1])[:, None] / radius
        cos, sin = np.cos(track.angle[frame]), np.sin(track.angle[frame])
        u, v = (cos * x + sin * y).astype(np.float32), (cos * y - sin * x).astype(np.float32)  # [h, w], [h, w]
        cover = np.clip(0.5 - sprite.shape(u, v) * radius * side, 0, 1).astype(np.float32) * np.float32(alpha)
        share = sprite.mix(u, v)[..., None]  # [h, w, 1]
        colour = (1 - share) * sprite.colours[0] + share * sprite.colours[1]  # [h, w, 3]
        patch = canvas[frame, low[1] : high[1], low[0] : high[0]]
        patch += cover[..., None] * (colour - patch)
