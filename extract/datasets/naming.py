"""Names of videos and classes as people have them on disk: spelled in other cases, with spaces, other extensions."""

import re
import unicodedata
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from ...cache.text import shown

# What counts as a video file; anything else in a folder is a stray file. Containers, not codecs: ffmpeg reads them all.
VIDEO_SUFFIXES = frozenset(
    (".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg")
    + (".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m")
)

# What counts as a frame in a folder of frames; what a file really holds is read from its first bytes.
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

Value = TypeVar("Value", bound=Hashable)


def stem_of(name: str) -> str:
    """A video's name without a video's extension. Other dots belong to the name (`Scene_1.2_kick`)."""
    head, dot, suffix = name.rpartition(".")
    return head if head and dot + suffix.lower() in VIDEO_SUFFIXES else name


def is_frame_name(name: str) -> bool:
    """Whether a file of this name in a folder of frames is taken for a frame."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def some(names: Sequence[str], most: int = 5) -> str:
    """The first names in quotes, and how many more there are."""
    quoted = ", ".join(f"'{shown(name)}'" for name in names[:most])
    return quoted if len(names) <= most else f"{quoted} and {len(names) - most} more"


def fold(name: str) -> str:
    """The name across case, Unicode form, and spaces against underscores."""
    return re.sub(r"\s", "_", unicodedata.normalize("NFC", name)).casefold()


def squeeze(name: str) -> str:
    """Letters and digits alone: `HorseR-ace` is `Horse Race`, `[something]` is `something`."""
    return "".join(c for c in fold(name) if c.isalnum())


def natural(name: str) -> tuple[list[str | int], str]:
    """Sort key by which `clip2` stands before `Clip10`; the name itself breaks ties (`a1`, `a01`, `A1`)."""
    parts = re.split("([0-9]+)", name.casefold())  # text, digits, text, ..., text
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


class Spellings(Generic[Value]):
    """Looks up published names by the way they are spelled on disk: as they are, else folded, else squeezed.

    names: pairs (name, value); a value may have several names, the first ones preferred. Where a looser spelling
    would fit two values it fits none.
    """

    _LEVELS = (str, fold, squeeze)

    def __init__(self, names: Iterable[tuple[str, Value]]) -> None:
        pairs = list(names)
        self._levels = [_unambiguous((level(name), value) for name, value in pairs) for level in self._LEVELS]

    def find(self, name: str) -> tuple[Value, int] | None:
        """(value, how loosely it fits: 0 exactly, 1 folded, 2 squeezed), or None."""
        for looseness, (level, table) in enumerate(zip(self._LEVELS, self._levels, strict=True)):
            value = table.get(level(name))
            if value is not None:
                return value, looseness
        return None


def _unambiguous(pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    table: dict[str, Value] = {}
    clashing = set()
    for name, value in pairs:
        if table.setdefault(name, value) != value:
            clashing.add(name)
    return {name: value for name, value in table.items() if name not in clashing and name}
