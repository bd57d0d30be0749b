"""What is known of a backbone without loading it: one line of the table in docs/backbones.md.

Every module of the table has a constant `ABOUT`, a tuple of these; a test compares them with what loads.
"""

from dataclasses import dataclass

from ..errors import ExtractError


@dataclass(frozen=True, kw_only=True)
class About:
    """name: as on the command line, with the options that change the cube, `tsn --time mean`; network: what it is, and
    whose; weights: what they saw, and where they are had; licence: of the weights; frames, size: of a clip; cube_shape:
    (c, t, h, w) at the last stage. None: the model that is named decides."""

    name: str
    network: str
    weights: str
    licence: str
    frames: int | None
    size: int | None
    cube_shape: tuple[int, int, int, int] | None

    def __post_init__(self) -> None:
        for field in (self.name, self.network, self.weights, self.licence):
            if "|" in field or "\n" in field:
                raise ExtractError(f"text ({field!r}) must be one cell of a table; leave out '|' and line ends")

    def cells(self) -> tuple[str, ...]:
        """The line as text, in the order of `HEADERS`."""
        frames, size = self.frames or "its own", self.size or "its own"
        clip = f"{frames} x {size} x {size}" if self.size else f"{frames} frames and size"
        cube = " x ".join(map(str, self.cube_shape)) if self.cube_shape else "from its configuration"
        megabytes = f"{megabytes_a_video(self.cube_shape):.3g}" if self.cube_shape else "2 c t h w / 10^6"
        return f"`{self.name}`", self.network, self.weights, self.licence, clip, cube, megabytes


HEADERS = ("name", "network", "weights", "licence", "input", "cube c x t x h x w", "MB a video")


def megabytes_a_video(cube_shape: tuple[int, int, int, int]) -> float:
    """Megabytes (10^6 bytes) of one video's cube in float16, one view."""
    c, t, h, w = cube_shape
    return 2 * c * t * h * w / 1e6
