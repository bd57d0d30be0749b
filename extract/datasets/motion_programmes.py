"""What moves and how: one programme a class of the data set `motion`.

A programme draws its own phase, speed and size from `rng` and returns one `Track` for each sprite that takes part.
Places are in units of the frame's side, x to the right and y downwards, relative to a point that the renderer
chooses by the middle frame, in which every class looks alike: neither place nor looks tell the class, only change.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FRAMES = 16
U = np.arange(FRAMES) / (FRAMES - 1)  # time from 0 to 1


@dataclass(frozen=True, eq=False)
class Track:
    """One sprite over time: every array is float64 [frames]. angle in radians, clockwise; scale multiplies the
    sprite's radius; alpha is its opacity."""

    x: np.ndarray
    y: np.ndarray
    angle: np.ndarray
    scale: np.ndarray
    alpha: np.ndarray


Programme = Callable[[np.random.Generator], list[Track]]


def _track(x: object = 0.0, y: object = 0.0, angle: object = 0.0, scale: object = 1.0, alpha: object = 1.0) -> Track:
    return Track(*(np.broadcast_to(np.asarray(value, dtype=float), FRAMES) for value in (x, y, angle, scale, alpha)))


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _triangle(phase: np.ndarray) -> np.ndarray:
    """Triangle wave of period 1 between -1 and 1."""
    return 4 * np.abs(phase % 1 - 0.5) - 1


def _turn(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """An angle that grows from a random start by `low` to `high` turns."""
    return 2 * np.pi * (rng.random() + _between(rng, low, high) * U)


# --- train -----------------------------------------------------------------------------------------------------------


def slide_right(rng: np.random.Generator) -> list[Track]:
    return [_track(x=_between(rng, 0.35, 0.65) * U)]


def slide_up(rng: np.random.Generator) -> list[Track]:
    return [_track(y=-_between(rng, 0.35, 0.65) * U)]


def spin_cw(rng: np.random.Generator) -> list[Track]:
    return [_track(angle=_turn(rng, 0.6, 1.3))]


def grow(rng: np.random.Generator) -> list[Track]:
    return [_track(scale=_between(rng, 0.5, 0.7) + _between(rng, 0.7, 1.0) * U)]


def circle_ccw(rng: np.random.Generator) -> list[Track]:
    angle, radius = _turn(rng, 0.9, 1.6), _between(rng, 0.15, 0.26)
    return [_track(x=radius * np.cos(angle), y=-radius * np.sin(angle))]


def pong(rng: np.random.Generator) -> list[Track]:
    """To and fro between two walls, left and right."""
    return [_track(x=_between(rng, 0.17, 0.28) * _triangle(rng.random() + _between(rng, 1.3, 2.2) * U))]


def zigzag_down(rng: np.random.Generator) -> list[Track]:
    x = _between(rng, 0.1, 0.16) * _triangle(rng.random() + _between(rng, 1.5, 2.5) * U)
    return [_track(x=x, y=_between(rng, 0.4, 0.65) * U)]


def shake(rng: np.random.Generator) -> list[Track]:
    """A quick small tremble from left to right."""
    return [_track(x=_between(rng, 0.03, 0.05) * np.sin(2 * np.pi * (rng.random() + _between(rng, 4, 6) * U)))]


def blink(rng: np.random.Generator) -> list[Track]:
    """On and off; on in the middle of the clip, where a missing sprite would tell the class."""
    phase = 0.5 * rng.random() + _between(rng, 2, 4) * (U - U[FRAMES // 2])
    return [_track(alpha=phase % 1 < 0.5)]


def approach(rng: np.random.Generator) -> list[Track]:
    """Two sprites come together, along any line."""
    angle, far, near = 2 * np.pi * rng.random(), _between(rng, 0.27, 0.32), _between(rng, 0.1, 0.13)
    half = far + (near - far) * U
    return [_track(x=side * half * np.cos(angle), y=side * half * np.sin(angle)) for side in (-1, 1)]


def orbit_cw(rng: np.random.Generator) -> list[Track]:
    """One sprite stands, another goes round it."""
    angle, radius = _turn(rng, 0.8, 1.4), _between(rng, 0.24, 0.3)
    return [_track(), _track(x=radius * np.cos(angle), y=radius * np.sin(angle))]


def counter(rng: np.random.Generator) -> list[Track]:
    """Two sprites pass each other in opposite directions, on two lanes."""
    lane, way = _between(rng, 0.12, 0.2) * _sign(rng), _between(rng, 0.35, 0.6)
    return [_track(x=way * (U - 0.5), y=lane), _track(x=-way * (U - 0.5), y=-lane)]


# --- val -------------------------------------------------------------------------------------------------------------


def pulse(rng: np.random.Generator) -> list[Track]:
    beat = np.sin(2 * np.pi * (rng.random() + _between(rng, 1.5, 2.5) * U))
    return [_track(scale=1 + _between(rng, 0.25, 0.4) * beat)]


def vanish(rng: np.random.Generator) -> list[Track]:
    """Fades away for good, after the middle of the clip."""
    start, duration = _between(rng, 0.5, 0.7), _between(rng, 0.15, 0.3)
    return [_track(alpha=np.clip(1 - (U - start) / duration, 0, 1))]


def swap(rng: np.random.Generator) -> list[Track]:
    """Two sprites change places, each along half a circle."""
    angle = 2 * np.pi * rng.random() + _sign(rng) * np.pi * U
    radius = _between(rng, 0.15, 0.24)
    return [_track(x=side * radius * np.cos(angle), y=side * radius * np.sin(angle)) for side in (-1, 1)]


def diag_ul(rng: np.random.Generator) -> list[Track]:
    way = -_between(rng, 0.3, 0.55) * U
    return [_track(x=way, y=way)]


def diag_dr(rng: np.random.Generator) -> list[Track]:
    way = _between(rng, 0.3, 0.55) * U
    return [_track(x=way, y=way)]


def uturn(rng: np.random.Generator) -> list[Track]:
    """Out to the right, half a circle up or down, and back."""
    straight, radius = _between(rng, 0.3, 0.4), _between(rng, 0.1, 0.16)
    curve = np.pi * radius
    done = (2 * straight + curve) * U
    angle = np.clip((done - straight) / radius, 0, np.pi)
    x = np.minimum(done, straight) + radius * np.sin(angle) - np.maximum(done - straight - curve, 0)
    return [_track(x=x, y=_sign(rng) * radius * (1 - np.cos(angle)))]


# --- test ------------------------------------------------------------------------------------------------------------


def fall_bounce(rng: np.random.Generator) -> list[Track]:
    """Falls, and bounces lower each time."""
    height, keeps, period = _between(rng, 0.45, 0.65), _between(rng, 0.4, 0.6), _between(rng, 0.3, 0.4)
    up = np.where(period > U, height * (1 - (U / period) ** 2), 0.0)
    start, top = period, height * keeps
    while start < 1 and top > 0.01:
        duration = 2 * period * np.sqrt(top / height)
        part = (U - start) / duration
        up = np.where((part >= 0) & (part < 1), 4 * top * part * (1 - part), up)
        start, top = start + duration, top * keeps
    return [_track(y=-up)]


def spiral_out(rng: np.random.Generator) -> list[Track]:
    angle, radius = _sign(rng) * _turn(rng, 1.5, 2.2), 0.03 + _between(rng, 0.2, 0.28) * U
    return [_track(x=radius * np.cos(angle), y=radius * np.sin(angle))]


def rock(rng: np.random.Generator) -> list[Track]:
    """Tilts to one side and to the other."""
    tilt = np.sin(2 * np.pi * (rng.random() + _between(rng, 1.5, 2.5) * U))
    return [_track(angle=2 * np.pi * rng.random() + _between(rng, 0.5, 0.9) * tilt)]


def teleport(rng: np.random.Generator) -> list[Track]:
    """Stands, and is elsewhere in no time, two to four times."""
    stays = 3 + int(3 * rng.random())
    which = np.minimum((U * stays + 0.3 * (rng.random() - 0.5)).clip(0).astype(int), stays - 1)
    angles = np.cumsum([2 * np.pi * (rng.random() if k == 0 else _between(rng, 0.25, 0.75)) for k in range(stays)])
    radii = np.array([_between(rng, 0.15, 0.27) for _ in range(stays)])
    return [_track(x=(radii * np.cos(angles))[which], y=(radii * np.sin(angles))[which])]


def launch(rng: np.random.Generator) -> list[Track]:
    """Rests, then rises faster and faster."""
    wait, way = _between(rng, 0.15, 0.4), _between(rng, 0.5, 0.68)
    return [_track(y=-way * (np.maximum(U - wait, 0) / (1 - wait)) ** 2)]


def chase(rng: np.random.Generator) -> list[Track]:
    """One sprite follows another along a wavy line to the right."""
    way, gap, swing, waves = _between(rng, 0.25, 0.35), 0.3, _between(rng, 0.06, 0.12), _between(rng, 1.5, 2.5)
    start = rng.random()
    places = [ahead + way * U for ahead in (0.0, gap)]
    return [_track(x=x, y=swing * np.sin(2 * np.pi * (start + waves * x))) for x in places]


def in_turn(rng: np.random.Generator) -> list[Track]:
    """Two sprites go to the left one after the other; one stands while the other goes."""
    way, lane, change = _between(rng, 0.35, 0.6), _between(rng, 0.12, 0.2) * _sign(rng), _between(rng, 0.45, 0.55)
    first, second = np.clip(U / change, 0, 1), np.clip((U - change) / (1 - change), 0, 1)
    return [_track(x=-way * first, y=lane), _track(x=-way * second, y=-lane)]


def stop_go(rng: np.random.Generator) -> list[Track]:
    """Goes down in two or three bursts, and stands between them."""
    bursts, start = 2 + int(2 * rng.random()), 0.3 * rng.random()
    part = (U * bursts + start) / (bursts + start) * bursts
    done = np.floor(part) + np.clip((part % 1) / 0.45, 0, 1)
    return [_track(y=_between(rng, 0.45, 0.65) * (done - done[0]) / bursts)]


PROGRAMMES: dict[str, dict[str, Programme]] = {
    "train": {
        programme.__name__: programme
        for programme in (
            slide_right,
            slide_up,
            spin_cw,
            grow,
            circle_ccw,
            pong,
            zigzag_down,
            shake,
            blink,
            approach,
            orbit_cw,
            counter,
        )
    },
    "val": {programme.__name__: programme for programme in (pulse, vanish, swap, diag_ul, diag_dr, uturn)},
    "test": {
        programme.__name__: programme
        for programme in (fall_bounce, spiral_out, rock, teleport, launch, chase, in_turn, stop_go)
    },
}
