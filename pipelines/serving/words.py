"""What the page shows, as HTML. Every name comes from a stranger, and is escaped here."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

from ...cache.text import shown
from ..explaining.explanation import Explanation
from ..explaining.grid import draw_grid
from ..explaining.overlay import png_bytes

COLUMNS = 4  # frames of a clip in the page's picture


def classes_html(classes: Mapping[str, int]) -> str:
    """A table of what is enrolled."""
    if not classes:
        return "<p class='quiet'>No class yet: name one, drop clips of it, and add them.</p>"
    rows = "".join(f"<tr><td>{_text(name)}</td><td>{clips}</td></tr>" for name, clips in classes.items())
    return f"<table class='classes'><thead><tr><th>class</th><th>clips</th></tr></thead><tbody>{rows}</tbody></table>"


def problems_html(problems: Sequence[str]) -> str:
    """What went wrong, one line each; nothing where nothing did."""
    lines = "".join(f"<li>{_text(problem)}</li>" for problem in problems)
    return f"<ul class='problems' role='alert'>{lines}</ul>" if problems else ""


def answer_html(explanation: Explanation) -> str:
    """Label, and scores of all classes, of an explanation's one query."""
    ranking = explanation.ranking(0)
    best, verdict = explanation.classes[ranking[0]], explanation.verdict(0)
    rows = "".join(_row(explanation, way) for way in ranking)
    seen = explanation.queries[0]
    note = f"<p class='quiet'>{_text(seen.note)}</p>" if seen.note else ""
    return (
        f"<p class='label'><strong>{_text(best)}</strong> <span class='quiet'>{_text(verdict)}</span></p>"
        f"<table class='scores'><caption>{_text(explanation.probability_words)}</caption><tbody>{rows}</tbody></table>"
        f"{note}"
    )


def picture_html(explanation: Explanation) -> str:
    """The grid of an explanation's one query, inside the page: nothing is written to a file."""
    grid = draw_grid(explanation, 0, ways=explanation.ranking(0), columns=COLUMNS)
    data = base64.b64encode(png_bytes(grid)).decode()
    words = "attention of the head over the frames of the query and of the first clip of each class"
    return f"<figure class='grid'><img src='data:image/png;base64,{data}' alt='{words}'></figure>"


def _row(explanation: Explanation, way: int) -> str:
    share, logit = float(explanation.probabilities[0, way]), float(explanation.logits[0, way])
    return (
        f"<tr><td>{_text(explanation.classes[way])}</td>"
        f"<td class='bar'><div style='width: {100 * share:.1f}%'></div></td>"
        f"<td class='number'>{100 * share:.1f} %</td><td class='number quiet'>logit {logit:.3g}</td></tr>"
    )


def _text(text: str) -> str:
    return escape(shown(text))
