"""`mastaf explain`: an episode, or clips of one's own, as grids and films of a head's attention."""

import tempfile
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


def write_pictures(explanation: Explanation, out: Path, *, columns: int | None = None, film: bool = True) -> list[Path]:
    """Write a grid and a film of each query into the folder `out`, and where ways have several shots a grid of each way
    with all of them. columns: frames shown of a video in a grid. Returns the files."""
    written: list[Path] = []

    def keep(path: Path, data: bytes) -> None:
        write_bytes(path, data)
        written.append(path)

    several = any(len(shots) > 1 for shots in explanation.supports)
    for q in range(len(explanation.queries)):
        ranking = explanation.ranking(q)
        grid = draw_grid(explanation, q, ways=ranking, columns=columns)
        keep(out / f"query{q + 1}.png", png_bytes(grid))
        for place, way in enumerate(ranking if several else ()):
            grid = draw_grid(explanation, q, ways=[way], every_shot=True, columns=columns)
            keep(out / f"query{q + 1}_rank{place + 1}.png", png_bytes(grid))
        if film:
            path = out / f"query{q + 1}.mp4"
            shown = len(film_ways(explanation, q))
            if shown < len(ranking):
                console.say(f"{path.name} has room for {shown} of {len(ranking)} ways; the PNG shows all")
            write_film(path, explanation, q)
            written.append(path)
    return written


def summary_of(explanation: Explanation) -> dict[str, Any]:
    """Scores and scales as plain JSON values."""
    queries = []
    for q, seen in enumerate(explanation.queries):
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
        true = None if label is None else explanation.classes[label]
        queries.append({"query": seen.name, "predicted": ways[0]["class"], "class": true, "ways": ways})
    scales = {
        kind: {"low": scale.low, "high": scale.high, "unit": "even spread" if scale.relative else "weight"}
        for kind, scale in explanation.scales.items()
    }
    return {"head": explanation.head, "shown": explanation.title, "queries": queries, "scales": scales}


def say_and_write(
    explanation: Explanation, facts: dict[str, Any], out: Path, *, columns: int | None, film: bool
) -> dict[str, Any]:
    """Pictures and `explanation.json` into `out`, and their names on the terminal. Returns what `--json` holds."""
    found = summary_of(explanation)
    for query in found["queries"]:
        true = "" if query["class"] is None else f" (true class: {query['class']})"
        first = query["ways"][0]
        console.say(f"{query['query']}: {query['predicted']}, {100 * first['probability']:.1f} %{true}")
    files = write_pictures(explanation, out, columns=columns, film=film)
    summary = {**found, **facts, "files": [str(path) for path in files]}
    write_json(out / "explanation.json", summary)
    for path in (*files, out / "explanation.json"):
        console.say(f"wrote {path}")
    return summary
