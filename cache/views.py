"""The names of views: what a video is shown as. Extraction makes views, training draws among them.

    plain                   the frames and the centre crop that the recipe says
    topleft                 another crop of the resized frame
    t1, t2, ...             other frames: the first, the second, ... draw of jittered frames
    flip                    mirrored
    topleft+t2+flip         at most one of each kind, in this order, so that one view has one name

View 0 of a store is `plain` and the only one that evaluation reads.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .console import unknown_name
from .errors import CacheError

CENTRE = "centre"
# The crops that a name may ask for; without one it is the centre.
CROPS = ("left", "right", "top", "bottom", "topleft", "topright", "bottomleft", "bottomright")
_JITTER = re.compile(r"t[1-9][0-9]{0,3}")
_KNOWN = ("plain", *CROPS, "t1", "t2", "flip")


@dataclass(frozen=True)
class View:
    """One view. crop: CENTRE or one of CROPS; jitter: `t1`, ..., or '' for the recipe's own frames."""

    crop: str = CENTRE
    jitter: str = ""
    flip: bool = False

    @property
    def name(self) -> str:
        """The view's one name."""
        parts = ("" if self.crop == CENTRE else self.crop, self.jitter, "flip" if self.flip else "")
        return "+".join(part for part in parts if part) or "plain"


def parse_view(name: str) -> View:
    """The view of that name. CacheError for an unknown part, two of one kind, and parts in another order."""
    if name == "plain":
        return View()
    parts = name.split("+")
    crops, jitters, flips = ([p for p in parts if of_kind(p)] for of_kind in (_is_crop, _is_jitter, _is_flip))
    for part in parts:
        if part == "plain":
            raise CacheError(f"view ('{name}') must not combine plain with anything: plain is the view that is neither")
        if part not in crops + jitters + flips:
            raise CacheError(unknown_name("view", part, _KNOWN))
    for kind in (crops, jitters, flips):
        if len(kind) > 1:
            raise CacheError(f"view ('{name}') must have one of {' and '.join(kind)}; give two views, with a comma")
    view = View(crop="".join(crops) or CENTRE, jitter="".join(jitters), flip=bool(flips))
    if view.name != name:
        raise CacheError(f"view ('{name}') must be written {view.name}, so that one view has one name")
    return view


def check_views(names: Sequence[str]) -> None:
    """CacheError unless `names` are distinct views, `plain` first."""
    for name in names:
        parse_view(name)
    if not names or names[0] != "plain" or len(set(names)) != len(names):
        raise CacheError(f"views ({','.join(names)}) must be distinct and begin with plain, as in --views plain,t1,t2")


def flipped_views(names: Iterable[str]) -> list[str]:
    """Those of `names` that show a mirrored video."""
    return [name for name in names if parse_view(name).flip]


def _is_crop(part: str) -> bool:
    return part in CROPS


def _is_jitter(part: str) -> bool:
    return _JITTER.fullmatch(part) is not None


def _is_flip(part: str) -> bool:
    return part == "flip"
