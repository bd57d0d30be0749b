"""`mastaf explain`: an episode, or clips of one's own, as grids and films of a head's attention."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...cache import console
from ...cache.atomic import write_bytes, write_json
from ..errors import PipelineError
from .explanation import Explanation
from .film import film_ways, write_film
from .grid import draw_grid
from .overlay import png_bytes


def writable_folder(out: Path) -> Path:
    """Make the folder `out`. PipelineError, before anything is computed, where nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise PipelineError(
            f"out ({out}) must be a folder that can be written ({error.strerror}); give another"
        ) from error
    return out


Shown = Sequence[tuple[Explanation, int]]  # queries: an explanation, and which of its queries


def write_pictures(shown: Shown, out: Path, *, columns: int | None = None, film: bool = True) -> list[Path]:
    """Write a grid and a film of each query into the folder `out`, and where ways have several shots a grid of each way
    with all of them. columns: frames shown of a video in a grid. Returns the files."""
    written: list[Path] = []

    def keep(path: Path, data: bytes) -> None:
        write_bytes(path, data)
        written.append(path)

    for number, (explanation, q) in enumerate(shown, start=1):
        ranking = explanation.ranking(q)
        keep(out / f"query{number}.png", png_bytes(draw_grid(explanation, q, ways=ranking, columns=columns)))
        several = any(len(shots) > 1 for shots in explanation.supports)
        for rank, way in enumerate(ranking if several else (), start=1):
            grid = draw_grid(explanation, q, ways=[way], every_shot=True, columns=columns)
            keep(out / f"query{number}_rank{rank}.png", png_bytes(grid))
        if film:
            path = out / f"query{number}.mp4"
            room = len(film_ways(explanation, q))
            if room < len(ranking):
                console.say(f"{path.name} has room for {room} of {len(ranking)} ways; the PNG shows all")
            write_film(path, explanation, q)
            written.append(path)
    return written


def summary_of(explanation: Explanation, q: int) -> dict[str, Any]:
    """A query's scores and scales as plain JSON values."""
    label = explanation.labels[q]
    ways = [
        {
            "class": explanation.classes[way],
            "probability": float(explanation.probabilities[q, way]),
            "logit": float(explanation.logits[q, way]),
            "supports": [video.name for video in explanation.supports[way]],
        }
        for way in explanation.ranking(q)
    ]
    scales = {
        kind: {"low": scale.low, "high": scale.high, "unit": "even spread" if scale.relative else "weight"}
        for kind, scale in explanation.scales.items()
    }
    return {
        "query": explanation.queries[q].name,
        "predicted": ways[0]["class"],
        "verdict": explanation.verdict(q),
        "class": None if label is None else explanation.classes[label],
        "probabilities": explanation.probability_words,
        "ways": ways,
        "scales": scales,
    }


def say_and_write(shown: Shown, facts: dict[str, Any], out: Path, *, columns: int | None, film: bool) -> dict[str, Any]:
    """Pictures and `explanation.json` into `out`, and their names on the terminal. Returns what `--json` holds."""
    queries = [summary_of(explanation, q) for explanation, q in shown]
    for query in queries:
        true = "" if query["class"] is None else f" (true class: {query['class']})"
        first = query["ways"][0]
        score = f"{query['verdict']}, {100 * first['probability']:.1f} % ({query['probabilities']})"
        console.say(f"{query['query']}: {query['predicted']}, {score}{true}")
    files = write_pictures(shown, out, columns=columns, film=film)
    first, _ = shown[0]
    found = {"head": first.head, "shown": first.title, "queries": queries, **facts}
    summary = {**found, "files": [str(path) for path in files]}
    write_json(out / "explanation.json", summary)
    for path in (*files, out / "explanation.json"):
        console.say(f"wrote {path}")
    return summary
