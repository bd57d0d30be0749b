"""A film of one query and the ways of its episode: every frame that the backbone saw, with its maps, side by side.

way A   support  A_self  A_cross  |  query  A_self  A_cross
way B   ...
"""

from collections.abc import Iterator
from pathlib import Path

from ...cache.atomic import atomic_path
from ...extract.decoding.encode import encode
from .explanation import Explanation
from .grid import GAP, LEAST_WIDTH, LINE, MARGIN, SEAM, draw_header, enlarged, header_height, write_way
from .overlay import Pictures
from .sheet import GREY, Sheet, put

RATE = 4  # frames a second: 16 frames of a clip are looked at in four seconds
_LEAST_SECONDS = 8
_MOST_HEIGHT = 2160  # what every player plays


def film_ways(explanation: Explanation, q: int) -> list[int]:
    """The ways that a film of a query has room for, best first; the true one is among them."""
    ranking = explanation.ranking(q)
    row = _row_height(explanation, q)
    room = max((_MOST_HEIGHT - header_height(explanation) - LINE - MARGIN) // row, 1)
    shown = ranking[:room]
    true = explanation.labels[q]
    return shown if true is None or true in shown else [*shown[:-1], true]


def write_film(path: Path, explanation: Explanation, q: int) -> None:
    """Write the film of a query as an MP4 file, whole or not at all. Raises ExtractError where ffmpeg fails."""
    sheet, places = _lay_out(explanation, q)
    page, m = sheet.render(), len(explanation.queries[q].frames)
    turns = max(-(-_LEAST_SECONDS * RATE // m), 1)
    with atomic_path(path) as temporary:
        encode(_pictures(page, places, m * turns), temporary, rate=RATE, what="a film of attention")


def _lay_out(explanation: Explanation, q: int) -> tuple[Sheet, dict[tuple[int, int], list[Pictures]]]:
    """The sheet with all that stands still, and the pictures of each moving place (x, y)."""
    side = enlarged(explanation.queries[q].frames[:1]).shape[1]
    ways, kinds = film_ways(explanation, q), explanation.kinds
    half = (1 + len(kinds)) * (side + SEAM)
    top = header_height(explanation)
    row = _row_height(explanation, q)
    sheet = Sheet(max(2 * MARGIN + 2 * half + GAP, LEAST_WIDTH), top + LINE + len(ways) * row + MARGIN)
    draw_header(sheet, explanation, q)
    left_of_query = MARGIN + half + GAP
    places: dict[tuple[int, int], list[Pictures]] = {}
    for number, way in enumerate(ways):
        y = top + LINE + number * row
        write_way(sheet, explanation, q, way, MARGIN, y + LINE // 2)
        for x, strips in (
            (MARGIN, explanation.support_strips(q, way, 0)),
            (left_of_query, explanation.query_strips(q, way)),
        ):
            for place, strip in enumerate(strips):
                if strip is not None:
                    at = (x + place * (side + SEAM), y + LINE)
                    places[at] = [enlarged(picture) for picture in strip.pictures]
                    if number == 0:
                        label = strip.label if place else _side(explanation, ways[0], of_query=x != MARGIN)
                        sheet.write(label, at[0], top + LINE // 2, size=13, ink=GREY, room=side)
    return sheet, places


def _row_height(explanation: Explanation, q: int) -> int:
    return LINE + enlarged(explanation.queries[q].frames[:1]).shape[1] + SEAM


def _pictures(page: Pictures, places: dict[tuple[int, int], list[Pictures]], count: int) -> Iterator[Pictures]:
    """Page after page, uint8 RGB [height, width, 3]."""
    for number in range(count):
        for (x, y), moments in places.items():
            put(page, moments[number % len(moments)], x, y)
        yield page


def _side(explanation: Explanation, way: int, *, of_query: bool) -> str:
    shots = len(explanation.supports[way])
    return "query" if of_query else "support" if shots == 1 else f"support 1 of {shots}"
