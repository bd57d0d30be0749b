"""The pages of the commands, which the site's build makes from click."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest

SOURCE = Path(__file__).parents[1] / "docs" / "_site" / "command_pages.py"


@pytest.fixture(scope="module")
def command_pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("command_pages", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_has_its_page_in_the_navigation(command_pages):
    pages, entries = command_pages.pages(), repr(command_pages.nav())
    assert all(f"'{page}'" in entries for page in pages)
    assert len(re.findall(r"commands/[\w/-]+\.md", entries)) == len(pages)
    for page in ("mastaf-extract", "mastaf-cache/index", "mastaf-fewshot/train", "mastaf/two-stage"):
        assert f"commands/{page}.md" in pages


@pytest.fixture
def made_up(command_pages, monkeypatch) -> dict[str, str]:
    """The pages of two commands that use all there is."""

    @click.group(epilog="See also: others.")
    def group() -> None:
        """Look into a store."""

    @group.command()
    @click.option(
        "--kind", type=click.Choice(["a", "b"]), default="a", show_default=True, help="Of <dataset>, `a|b` or *."
    )
    @click.argument("place", metavar="PLACE")
    def show(kind: str, place: str) -> None:
        """Show what is in PLACE, <b>all</b> of it.

        Second paragraph,
        of two lines.

        \b
        Examples:
          tool show x --kind b
        """

    @group.command(hidden=True)
    def secret() -> None:
        """Not shown."""

    monkeypatch.setattr(command_pages, "_programs", lambda: iter([("tool", group)]))
    return command_pages.pages()


def test_a_page_says_what_help_says(made_up):
    assert set(made_up) == {"commands/tool/index.md", "commands/tool/show.md"}
    page = made_up["commands/tool/show.md"]
    assert page.startswith("# tool show\n\n```text\ntool show [OPTIONS] PLACE\n```\n")
    assert "\n\nSecond paragraph, of two lines.\n\n## Examples\n\n```sh\ntool show x --kind b\n```\n" in page
    index = made_up["commands/tool/index.md"]
    assert "| [`show`](show.md) | " in index
    assert "See also: others." in index
    assert "secret" not in index


def test_words_of_help_are_no_markup(made_up):
    page = made_up["commands/tool/show.md"]
    assert "Show what is in PLACE, &lt;b&gt;all&lt;/b&gt; of it." in page
    assert r"| <code>--kind [a&#124;b]</code> | Of &lt;dataset&gt;, `a|b` or \*." in page
