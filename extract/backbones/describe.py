"""The table of docs/backbones.md, from the facts beside each name; no weights are read.

python -m mastaf.extract.backbones.describe                      prints it
python -m mastaf.extract.backbones.describe docs/backbones.md    puts it into the file, between its marks
"""

import sys
from importlib import import_module
from pathlib import Path

from ...cache.atomic import write_bytes
from ...cache.console import table
from ..errors import ExtractError
from . import BACKBONES
from .about import HEADERS, About

FIRST = "<!-- from here: python -m mastaf.extract.backbones.describe docs/backbones.md -->"
LAST = "<!-- to here -->"


def all_abouts() -> list[About]:
    """The facts of every name, in the table's order."""
    modules = [import_module(target.split(":")[0]) for target in BACKBONES.values()]
    return [about for module in modules for about in module.ABOUT]


def with_table(text: str) -> str:
    """A document with the table between its marks. ExtractError where it does not have both marks, once."""
    parts = text.split(FIRST)
    rest = parts[-1].split(LAST)
    if len(parts) != 2 or len(rest) != 2:
        raise ExtractError(f"the document must have the lines '{FIRST}' and '{LAST}' once, in this order")
    lines = table([about.cells() for about in all_abouts()], HEADERS)
    return f"{parts[0]}{FIRST}\n\n{lines}\n\n{LAST}{rest[1]}"


def main() -> None:
    """Print the table, or write it into the file that is named."""
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        write_bytes(path, with_table(path.read_text(encoding="utf-8")).encode())
    else:
        print(table([about.cells() for about in all_abouts()], HEADERS))


if __name__ == "__main__":
    main()
