"""docs/backbones.md: its table is that of the facts beside each name, the facts are what loads, its snippet runs."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.about import About
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.describe import FIRST, LAST, all_abouts, with_table
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError

DOCUMENT = Path(__file__).parents[2] / "docs" / "backbones.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
ABOUTS = {about.name: about for about in all_abouts()}
CELLS = {
    "name": "x",
    "network": "x",
    "weights": "x",
    "licence": "x",
    "frames": 1,
    "size": 1,
    "cube_shape": (1, 1, 1, 1),
}


@cache
def loaded_once(name: str) -> Backbone:
    return load_backbone(name, weights="random")


def test_the_table_is_up_to_date():
    assert with_table(TEXT) == TEXT, "run: python -m mastaf.extract.backbones.describe docs/backbones.md"


def test_every_name_of_the_table_has_its_line():
    assert {name.split()[0] for name in ABOUTS} == set(BACKBONES)
    lines = re.findall(r"^\| `(.+?)` ", TEXT, re.MULTILINE)
    assert lines == list(ABOUTS)


@pytest.mark.parametrize("name", [name for name, about in ABOUTS.items() if about.cube_shape])
def test_what_is_said_is_what_loads(name):
    about, (backbone, *option) = ABOUTS[name], name.split()
    loaded = loaded_once(backbone)
    if option:
        loaded = loaded.at(loaded.layer, **{option[0].removeprefix("--"): option[1]})
    assert (loaded.frames, loaded.size, loaded.cube_shape) == (about.frames, about.size, about.cube_shape)
    stored = np.zeros((1, *loaded.cube_shape), np.float16).nbytes / 1e6
    assert float(about.cells()[-1]) == pytest.approx(stored, rel=0.01)


def test_the_plugin_of_the_document_loads():
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    found = {}
    exec(code, found)
    mine = found["load"](weights="random", frames=None, size=32, resize="squash", layer="stem", seed=0)
    assert (mine.layers, mine.layer, mine.cube_shape) == (("stem", "last"), "stem", (32, 16, 8, 8))
    with pytest.raises(ExtractError, match=r"mine.pth is at https://example.org/mine; put it into a folder"):
        found["load"](weights=None, frames=None, size=32, resize="squash", layer=None, seed=0)


@pytest.mark.parametrize("text", ["", FIRST, LAST + FIRST, FIRST + FIRST + LAST, FIRST + LAST + LAST])
def test_a_document_without_the_marks_is_left_alone(text):
    with pytest.raises(ExtractError, match="must have the lines"):
        with_table(text)


@pytest.mark.parametrize("field", ["name", "network", "weights", "licence"])
def test_a_cell_cannot_break_the_table(field):
    with pytest.raises(ExtractError, match="one cell"):
        About(**CELLS | {field: "a|b"})


def test_a_model_that_decides_for_itself_has_a_line_too():
    cells = About(**CELLS | {"frames": None, "size": None, "cube_shape": None}).cells()
    assert cells[-3:] == ("its own frames and size", "from its configuration", "2 c t h w / 10^6")
