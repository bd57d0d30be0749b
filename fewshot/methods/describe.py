"""The table of docs/methods.md, from what each method says of itself.

python -m mastaf.fewshot.methods.describe                    prints it
python -m mastaf.fewshot.methods.describe docs/methods.md    puts it into the file, between its marks
"""

import inspect
import sys
from pathlib import Path

import torch

from ...cache.atomic import write_bytes
from ...cache.console import table
from ..errors import FewShotError
from . import METHODS
from .base import Method
from .registry import load_method

FIRST = "<!-- from here: python -m mastaf.fewshot.methods.describe docs/methods.md -->"
LAST = "<!-- to here -->"
DIFFERS = "Differs from the paper in: "
HEADERS = ("`--method`", "reads", "parameters", "trained by", "train queries", "optimiser", "episodes x batch", "notes")
CUBE = (2048, 8, 7, 7)
_READS = {"vec": "mean over time and space", "seq": "mean over space", "cube": "whole cube"}


def facts(name: str) -> tuple[str, ...]:
    """The row of a method, as its defaults make it for cubes of CUBE."""
    with torch.device("meta"):
        method = load_method(name).build(cube_shape=CUBE, n_train_classes=0)
    mode, queries = method.training_queries()
    used = method.defaults
    count = method.n_trainable()
    rate = f"{used.optimiser} {used.lr:g}" + (f", momentum {used.momentum:g}" if used.momentum else "")
    notes = [
        "drawn per episode" if method.draws else "",
        "follows the order of supports" if method.ordered else "",
        f"needs t >= {method.needs.t}" if method.needs.t > 1 else "",
    ]
    return (
        f"`{name}`",
        _READS[method.readout],
        f"{count:,}" if count else "none, but fitted" if method.fits else "none",
        _trained_by(method, count),
        "one an episode" if mode == "single" else f"{queries} of each class" + _least(method),
        rate if count and method.episodic else "",
        f"{used.episodes or 'as the data set'} x {used.batch or 'as the data set'}"
        if count and method.episodic
        else "",
        ", ".join(note for note in notes if note),
    )


def differences(name: str) -> str:
    """Its paper, and what differs, in a paragraph."""
    text = inspect.cleandoc(load_method(name).__doc__ or "")
    paper, differs = text.split("\n\n")[0], text.split(DIFFERS)[1].split("\n\n")[0]
    return f"- `{name}`: {_line(paper)} Differs in: {_line(differs)}"


def with_table(text: str) -> str:
    """A document with table and list between its marks. FewShotError where it does not have both marks, once."""
    parts = text.split(FIRST)
    rest = parts[-1].split(LAST)
    if len(parts) != 2 or len(rest) != 2:
        raise FewShotError(f"the document must have the lines '{FIRST}' and '{LAST}' once, in this order")
    return f"{parts[0]}{FIRST}\n\n{everything()}\n\n{LAST}{rest[1]}"


def everything() -> str:
    """The table and the list."""
    rows = table([facts(name) for name in METHODS], HEADERS)
    return "\n".join([rows, "", *(differences(name) for name in METHODS)])


def _trained_by(method: Method, count: int) -> str:
    if not method.episodic:
        return "videos, once"
    return "episodes" if count else ("train statistics" if method.fits else "nothing")


def _least(method: Method) -> str:
    return " (needs them)" if method.needs.query_mode == "per_class" else ""


def _line(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """Print table and list, or write them into the file that is named."""
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        write_bytes(path, with_table(path.read_text(encoding="utf-8")).encode())
    else:
        print(everything())


if __name__ == "__main__":
    main()
