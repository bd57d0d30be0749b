"""What cubes the paper's numbers are of: no other ones may stand beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RANDOM, OTHER = "of random weights", "of other cubes than the paper's"


@dataclass(frozen=True)
class PaperCube:
    """Cubes of the paper's clips. layer, time, frames, size: as in `FeatureSpec`; shape: (c, t, h, w)."""

    layer: str
    time: str
    shape: tuple[int, int, int, int]
    frames: int
    size: int = 224


_TSN = PaperCube("stage4", "keep", (2048, 8, 7, 7), 8)
# "MASTAF-{TSN}" averages the maps of its frames.
_TSN_MEAN = PaperCube("stage4", "mean", (2048, 1, 7, 7), 8)
_CUBES = {
    "r3d": PaperCube("layer4", "keep", (2048, 1, 7, 7), 16),
    "tsn": _TSN,
    "vivit": PaperCube("last", "keep", (768, 4, 14, 14), 8),
}
# These average over all positions, so that cubes averaged over time are the same to them.
_OF_MEANS = ("feat", "pal")


def paper_cubes(method: str, backbone: str) -> tuple[PaperCube, ...]:
    """Those that a method of the paper may read on this backbone; none where the paper has no such backbone."""
    if backbone == "tsn" and method == "mastaf":
        return (_TSN_MEAN,)
    if backbone == "tsn" and method in _OF_MEANS:
        return (_TSN, _TSN_MEAN)
    return (_CUBES[backbone],) if backbone in _CUBES else ()


def misfit(record: Mapping[str, Any]) -> str | None:
    """Why a record's cubes are none of the paper's, in words; None where they are. record: fields of one."""
    if record["random_weights"]:
        return RANDOM
    ours = (record["layer"], record["time"], tuple(record["cube_shape"]))
    cubes = paper_cubes(record["method"], record["backbone"])
    return None if ours in [(cube.layer, cube.time, cube.shape) for cube in cubes] else OTHER
