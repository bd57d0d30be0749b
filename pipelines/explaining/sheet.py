"""A sheet of paper in pixels: text by matplotlib, pictures pasted unchanged.

Text is never markup (a name may hold `$`). Letters that matplotlib's own font lacks come from the fonts of the
machine; where none has them they are shown by their number, as \\u4e2d.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from ...cache.text import shown
from .overlay import Pictures, require_pictures

FAMILY = "DejaVu Sans"  # comes with matplotlib
_DPI = 100
INK, GREY, ACCENT = "#111111", "#5a5a5a", "#0b57a4"


class Sheet:
    """A white sheet of width x height pixels; places are counted from its upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        require_pictures()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # H.264 wants even sides.
        self.width, self.height = width + width % 2, height + height % 2
        self._figure = Figure(figsize=(self.width / _DPI, self.height / _DPI), dpi=_DPI, facecolor="white")
        self._canvas = FigureCanvasAgg(self._figure)
        self._pasted: list[tuple[Pictures, int, int]] = []

    def write(
        self, text: str, x: int, y: int, *, size: int = 14, room: int | None = None, bold: bool = False, ink: str = INK
    ) -> None:
        """Write one line whose middle is y, of letters `size` pixels high, in `room` pixels: longer text loses its
        middle."""
        from matplotlib.font_manager import FontProperties

        text = _with_glyphs(shown(text))
        others = _fallbacks(text)
        # Most other fonts have no bold face, and matplotlib would complain.
        weight = "bold" if bold and not others else "normal"
        how = FontProperties(family=[FAMILY, *others], size=size * 72 / _DPI, weight=weight)
        text = self._shorten(text, how, self.width - x if room is None else room)
        place = (x / self.width, 1 - y / self.height)
        self._figure.text(
            *place, text, fontproperties=how, color=ink, va="center_baseline", parse_math=False, usetex=False
        )

    def paste(self, picture: Pictures, x: int, y: int) -> None:
        """Put a picture uint8 RGB [height, width, 3] on the sheet, over all text."""
        self._pasted.append((picture, x, y))

    def fill(self, x: int, y: int, width: int, height: int, colour: tuple[int, int, int]) -> None:
        """A rectangle."""
        self.paste(np.full((height, width, 3), colour, np.uint8), x, y)

    def render(self) -> Pictures:
        """The sheet, uint8 RGB [height, width, 3]."""
        self._canvas.draw()
        page = np.asarray(self._canvas.buffer_rgba())[..., :3].copy()  # [height, width, 3]
        for picture, x, y in self._pasted:
            put(page, picture, x, y)
        return page

    def _shorten(self, text: str, how: Any, room: int) -> str:
        renderer = self._canvas.get_renderer()

        def fits(line: str) -> bool:
            return renderer.get_text_width_height_descent(line, how, False)[0] <= room

        # A name may be endless, and measuring takes time.
        line = text if len(text) <= 400 else f"{text[:200]}…{text[-199:]}"
        kept = len(line)
        while kept > 2 and not fits(line):
            kept = min(kept - 1, int(kept * 0.9))
            line = f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"
        return line


def put(page: Pictures, picture: Pictures, x: int, y: int) -> None:
    """Write a picture [height, width, 3] into a page, its upper left corner at (x, y)."""
    page[y : y + picture.shape[0], x : x + picture.shape[1]] = picture


def _with_glyphs(text: str) -> str:
    """The text with what no font can show by number."""
    return "".join(c if _family_of(c) is not None else c.encode("unicode_escape").decode() for c in text)


def _fallbacks(text: str) -> list[str]:
    """Families that have the letters which matplotlib's own font lacks."""
    found = dict.fromkeys(_family_of(c) for c in text)
    return [family for family in found if family not in (None, FAMILY)]


@lru_cache(maxsize=4096)
def _family_of(letter: str) -> str | None:
    """A font family that has a letter: matplotlib's own, else one of the machine, else None."""
    from matplotlib.font_manager import findfont, fontManager

    if ord(letter) in _letters_of(findfont(FAMILY)):
        return FAMILY
    for entry in fontManager.ttflist:
        # The last resort has a box for every letter, the same for many.
        if not entry.name.startswith("Last Resort") and ord(letter) in _letters_of(entry.fname):
            return entry.name
    return None


@lru_cache(maxsize=1024)
def _letters_of(file: str) -> frozenset[int]:
    """The letters of a font file; none where it cannot be read or has pictures of one size alone (emoji)."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):
        return frozenset()
