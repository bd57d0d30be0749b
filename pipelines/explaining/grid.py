"""A grid of one query and the ways of its episode: supports at the left, the query at the right, a row a map.

head, episode                                       legend of each kind of map
scores of all ways, best first
way A   support a      frames A_self A_cross   |   the query, its maps towards A
way B   support b      frames A_self A_cross   |   the query, its maps towards B
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .explanation import Explanation, Strip, label_of
from .overlay import Pictures, choose, key_of_colours
from .sheet import ACCENT, GREY, INK, Sheet

MARGIN, LINE, LABEL, GAP, SEAM = 16, 22, 84, 28, 2
_SIDE_PIXELS = 1024  # of one video's frames side by side, unless told
_LEAST_SIDE = 96  # smaller frames are shown with each pixel as several
_BAR, _LEGEND = 120, 180
LEAST_WIDTH = 1080
_BAR_COLOUR, _BEST_COLOUR = (170, 186, 204), (11, 87, 164)


@dataclass(frozen=True)
class Block:
    """One support beside a query. way, shot: which; header: whether the way's line stands above it; first: whether the
    query is shown beside it."""

    way: int
    shot: int
    header: bool
    first: bool


def enlarged(pictures: Pictures) -> Pictures:
    """Pictures [..., size, size, 3], each pixel as several where they are too small to look at."""
    times = -(-_LEAST_SIDE // pictures.shape[-2])
    return pictures.repeat(times, axis=-3).repeat(times, axis=-2)


def default_columns(size: int) -> int:
    """How many frames of a video are shown, for frames of `size` pixels."""
    return max(2, _SIDE_PIXELS // (size * -(-_LEAST_SIDE // size)))


def draw_grid(
    explanation: Explanation, q: int, *, ways: Sequence[int], every_shot: bool = False, columns: int | None = None
) -> Pictures:
    """A query beside the supports of `ways`, uint8 RGB [height, width, 3].

    every_shot: all shots of a way, else its first; columns: frames shown of a video, evenly chosen, last included.
    """
    frames = explanation.queries[q].frames
    chosen = choose(len(frames), columns or default_columns(frames.shape[1]))
    side = enlarged(frames[:1]).shape[1]
    wide = len(chosen) * (side + SEAM)  # one video's frames
    blocks = [
        Block(way, shot, header=shot == 0, first=shot == 0)
        for way in ways
        for shot in range(len(explanation.supports[way]) if every_shot else 1)
    ]
    rows = 1 + len(explanation.kinds)
    top = header_height(explanation)
    height = top + sum(2 * LINE + rows * (side + SEAM) + (LINE if block.header else 0) for block in blocks) + MARGIN
    sheet = Sheet(max(2 * (MARGIN + LABEL + wide) + GAP, LEAST_WIDTH), height)
    draw_header(sheet, explanation, q)
    y = top
    for block in blocks:
        y = _draw_block(sheet, explanation, q, block, chosen, y, side, wide)
    return sheet.render()


def _draw_block(
    sheet: Sheet, explanation: Explanation, q: int, block: Block, chosen: list[int], y: int, side: int, wide: int
) -> int:
    """One support and the query beside it; where the next block begins."""
    right = MARGIN + LABEL + wide + GAP
    if block.header:
        write_way(sheet, explanation, q, block.way, MARGIN, y + LINE // 2)
        y += LINE
    shots = explanation.supports[block.way]
    which = f"support {block.shot + 1} of {len(shots)}" if len(shots) > 1 else "support"
    room = LABEL + wide
    sheet.write(f"{which}: {shots[block.shot].name}", MARGIN, y + LINE // 2, room=room, size=13, ink=GREY)
    _draw_strips(sheet, explanation.support_strips(q, block.way, block.shot), chosen, MARGIN, y + LINE, side)
    if block.first:
        sheet.write(f"query: {explanation.queries[q].name}", right, y + LINE // 2, room=room, size=13, ink=GREY)
        _draw_strips(sheet, explanation.query_strips(q, block.way), chosen, right, y + LINE, side)
    return y + 2 * LINE + (1 + len(explanation.kinds)) * (side + SEAM)


def _draw_strips(sheet: Sheet, strips: Sequence[Strip | None], chosen: list[int], x: int, y: int, side: int) -> None:
    for strip in strips:
        if strip is not None:
            sheet.write(strip.label, x, y + side // 2, room=LABEL - 8, size=14)
            for place, picture in enumerate(enlarged(strip.pictures[chosen])):
                sheet.paste(picture, x + LABEL + place * (side + SEAM), y)
        y += side + SEAM


def header_height(explanation: Explanation) -> int:
    """Pixels that `draw_header` takes."""
    return MARGIN + LINE * (4 + max(len(explanation.classes), 2 * len(explanation.kinds)))


def draw_header(sheet: Sheet, explanation: Explanation, q: int) -> None:
    """Which head and episode, the scores of all ways, and what the colours mean."""
    y = MARGIN + LINE // 2
    room = sheet.width - 2 * MARGIN
    sheet.write(explanation.head, MARGIN, y, size=17, bold=True, room=room)
    sheet.write(f"{explanation.title} · query: {explanation.queries[q].name}", MARGIN, y + LINE, room=room)
    y += 2 * LINE + LINE // 2
    sheet.write(f"scores ({explanation.probability_words})", MARGIN, y, size=12, ink=GREY, room=room - 2 * _LEGEND)
    left = sheet.width - MARGIN - 2 * _LEGEND
    names = min(max(left - MARGIN - _BAR - 370, 80), 360)
    for place, way in enumerate(explanation.ranking(q)):
        share = float(explanation.probabilities[q, way])
        line, best = y + (place + 1) * LINE, place == 0
        sheet.write(explanation.classes[way], MARGIN, line, room=names - 8, bold=best)
        filled = max(round(_BAR * share), 1)
        sheet.fill(MARGIN + names, line - 6, filled, 12, _BEST_COLOUR if best else _BAR_COLOUR)
        x = MARGIN + names + _BAR + 12
        sheet.write(_score(explanation, q, way), x, line, room=left - x - 12, ink=ACCENT if best else INK, bold=best)
    _draw_legend(sheet, explanation, left, y)


def _draw_legend(sheet: Sheet, explanation: Explanation, x: int, y: int) -> None:
    for kind, scale in explanation.scales.items():
        sheet.write(f"{label_of(kind)}: {scale.words}", x, y, size=12, room=2 * _LEGEND, ink=GREY)
        low, high = f"{scale.low:.3g}", f"{scale.high:.3g}"
        if scale.is_even:
            sheet.write(f"{low} everywhere: no position stands out", x, y + LINE, size=13)
        else:
            sheet.write(low, x, y + LINE, size=13, room=60)
            sheet.paste(key_of_colours(_LEGEND, 14), x + 64, y + LINE - 7)
            sheet.write(high, x + 64 + _LEGEND + 8, y + LINE, size=13, room=80)
        y += 2 * LINE


def write_way(sheet: Sheet, explanation: Explanation, q: int, way: int, x: int, y: int) -> None:
    """A way's name, and its score."""
    score = _score(explanation, q, way)
    sheet.write(f"{explanation.classes[way]}   {score}", x, y, bold=True, size=15, room=sheet.width - x - MARGIN)


def _score(explanation: Explanation, q: int, way: int) -> str:
    """`62.1 %  (logit 9.31)  predicted, true class`."""
    words = [explanation.verdict(q)] if way == explanation.ranking(q)[0] else []
    words += ["true class"] if way == explanation.labels[q] else []
    share, logit = float(explanation.probabilities[q, way]), float(explanation.logits[q, way])
    return f"{100 * share:.1f} %  (logit {logit:.3g})  {', '.join(words)}".rstrip()
