"""Every code block of the documents is marked, and what its mark says is true. CONTRIBUTING.md has the marks."""

import importlib
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from mastaf.cache import console

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
FACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MODULES = {target.removesuffix(".cli:main"): name for name, target in FACTS["scripts"].items()}
MARK = re.compile(r"<!-- (run|help|none)(?:: (.+))? -->")
FENCE = re.compile(r"( *)(`{3,}|~{3,})(\S*)")
SHELL_WORDS = ("cd", "eval", "export", "mkdir", "source")


@dataclass(frozen=True)
class Block:
    """One code block. mark: run, help, none, or '' without one; about: what stands behind the mark's colon; line: of
    its first line, from 1; language: '' for one that is made by indentation, too."""

    document: str
    line: int
    language: str
    mark: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def blocks_of(text: str, document: str) -> Iterator[Block]:
    lines = ["", *text.split("\n")]
    number = 1
    while number < len(lines):
        start, fence = number, FENCE.match(lines[number])
        if fence:
            number = next((n for n in range(start + 1, len(lines)) if lines[n].strip() == fence[2]), len(lines))
            body = [inner.removeprefix(fence[1]) for inner in lines[start + 1 : number]]
            mark = MARK.fullmatch(lines[start - 1].strip())
            yield Block(document, start, fence[3], mark[1] if mark else "", (mark and mark[2]) or "", "\n".join(body))
        elif lines[number].startswith("    ") and not lines[number - 1].strip():
            yield Block(document, start, "", "", "", lines[number])
            while number + 1 < len(lines) and lines[number + 1].startswith("    "):
                number += 1
        number += 1


def prose_of(text: str) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2 *$", "", text, flags=re.DOTALL | re.MULTILINE)


def lines_of(text: str) -> Iterator[list[str]]:
    """The words of each command line: comments gone, lines that end in a backslash joined."""
    for line in text.replace("\\\n", " ").split("\n"):
        if words := shlex.split(line, comments=True):
            yield words


BLOCKS = [
    block for path in DOCUMENTS for block in blocks_of(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
]
RUN: dict[str, list[Block]] = {}
for _block in BLOCKS:
    if _block.mark == "run" and not _block.about:
        RUN.setdefault(_block.document, []).append(_block)


def command_of(program: str) -> click.Command:
    module = importlib.import_module(FACTS["scripts"][program].partition(":")[0])
    return module.command if program == "mastaf-extract" else module.cli


def parse(program: str, arguments: list[str]) -> None:
    """Parse a command line of ours and run nothing; click.UsageError where it would refuse it."""
    command, parent = command_of(program), None
    while isinstance(command, click.Group):
        parent = click.Context(command, info_name=program, parent=parent)
        if not arguments:
            raise click.UsageError("a subcommand must follow", parent)
        program, arguments = arguments[0], arguments[1:]
        inner = None if program.startswith("-") else command.get_command(parent, program)
        if inner is None:
            raise click.UsageError(f"no such command '{program}'", parent)
        command = inner
    command.make_context(program, list(arguments), parent=parent)


def check_line(words: list[str]) -> None:
    """A command line in a block marked `help`. Of other programs than ours it is checked that what they name exists."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words:
        return
    program, arguments = Path(words[0]).name, words[1:]
    if program in ("python", "torchrun"):
        at = next(n for n, word in enumerate(arguments) if word == "-m" or word.endswith(".py"))
        if arguments[at] != "-m":
            script = (ROOT / arguments[at]).read_text(encoding="utf-8")
            assert all(f'"{word}"' in script for word in arguments if word.startswith("--")), f"options of {words}"
            return
        module, arguments = arguments[at + 1], arguments[at + 2 :]
        if module not in MODULES:
            importlib.util.find_spec(module)
            return
        program = MODULES[module]
    if program in FACTS["scripts"]:
        parse(program, arguments)
    elif program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(arguments) <= set(targets), f"targets of {words}"
    elif program in ("pip", "pipx"):
        extras = {name for word in arguments for name in re.findall(r"mastaf\[(.+)\]", word)}
        assert {name for names in extras for name in names.split(",")} <= set(FACTS["optional-dependencies"]), words
    else:
        assert program in SHELL_WORDS, f"{program} cannot be checked; mark the block `none` with the reason"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_is_fenced_and_marked(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for block in (block for block in BLOCKS if block.document == name):
        assert block.language, f"{block}: a block starts with ``` and a language (sh, python, text, ...)"
        assert block.mark, f"{block}: the line before must be <!-- run -->, <!-- help --> or <!-- none: the reason -->"
        assert bool(block.about) == (block.mark == "none") or block.mark == "run", f"{block}: `none` has a reason"
        if block.mark == "run" and block.about:
            assert Path(name).name in (ROOT / block.about).read_text(encoding="utf-8"), f"{block}: {block.about} does"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.mark == "help"], ids=str)
def test_command_lines_parse(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # `--checkpoint hf:USER/REPO` is fetched as it is parsed; no test asks for a network.
    monkeypatch.setattr("mastaf.fewshot.sharing.fetch.fetch_run", lambda name: Path(name.repo))
    for words in lines_of(block.text):
        try:
            check_line(words)
        except click.UsageError as error:
            pytest.fail(f"{block}: {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_text_have_their_options(path: Path) -> None:
    for span in re.findall(r"`([^`]+)`", prose_of(path.read_text(encoding="utf-8"))):
        program, *words = span.split()
        if program not in FACTS["scripts"]:
            continue
        commands = [command_of(program)]
        if isinstance(commands[0], click.Group):
            group, context = commands[0], click.Context(commands[0])
            named = words[:1] if words and not words[0].startswith("-") else group.list_commands(context)
            assert all(group.get_command(context, name) for name in named), f"`{span}`: no such command"
            commands += [group.get_command(context, name) for name in named]
        known = {"--help", *(name for command in commands for option in command.params for name in option.opts)}
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - known
        assert not unknown, f"`{span}`: no such option"


def anchors_of(text: str) -> set[str]:
    """The anchors that the repository's web page gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose_of(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_in_the_repository(path: Path) -> None:
    """The site's build holds the same for its pages."""
    for link in re.findall(r"\]\((?![a-z]+:)([^)\s]+)\)", prose_of(path.read_text(encoding="utf-8"))):
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        assert not anchor or anchor in anchors_of(target.read_text(encoding="utf-8")), f"{link} has no such heading"


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What $MASTAF_DATA names: `motion` with few clips of each class. Never change it: it is shared."""
    from mastaf.extract.datasets.motion import render_motion

    data = tmp_path_factory.mktemp("data")
    render_motion(data / "motion", clips_per_class={"train": 2, "val": 2, "test": 4})
    return data


@pytest.fixture
def tiny(tmp_path: Path, small_data: Path, make_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder where `run` blocks run: my_videos/ (CLASS/CLIP.mp4 of three classes), cache/hmdb51_r3d.zarr (of 13),
    and `--dataset motion` with few clips."""
    monkeypatch.setenv("MASTAF_DATA", str(small_data))
    for name in ("rock", "chase", "teleport"):
        shutil.copytree(small_data / "motion" / "test" / name, tmp_path / "my_videos" / name)
    make_store(tmp_path / "cache" / "hmdb51_r3d.zarr")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("blocks", RUN.values(), ids=RUN)
@pytest.mark.usefixtures("tiny", "one_thread")
def test_blocks_run(blocks: list[Block]) -> None:
    """The blocks of a document in turn, in one folder; Python blocks each with names of their own."""
    for block in blocks:
        if block.language == "python":
            exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
            continue
        for program, *arguments in lines_of(block.text):
            with pytest.raises(SystemExit) as left:
                console.run(command_of(Path(program).name), arguments)
            assert not left.value.code, f"{block}: {shlex.join([program, *arguments])} ends with {left.value.code}"


MADE_UP = """text

<!-- run -->
```sh
mastaf-cache info a.zarr  # comment
```

1. In a list

   <!-- none: why -->
   ```text
   as it is
   ```

    indented
    on

```
bare
```
"""


def test_the_checks_see_what_they_look_for() -> None:
    found = [(block.line, block.language, block.mark, block.about, block.text) for block in blocks_of(MADE_UP, "x")]
    assert found == [
        (4, "sh", "run", "", "mastaf-cache info a.zarr  # comment"),
        (11, "text", "none", "why", "as it is"),
        (15, "", "", "", "    indented"),
        (18, "", "", "", "bare"),
    ]
    assert list(lines_of("a b  # c\n\n# d\nA=1 e \\\n  --f 'g h'")) == [["a", "b"], ["A=1", "e", "--f", "g h"]]
    assert "comment" not in prose_of(MADE_UP)


@pytest.mark.parametrize(
    "line",
    [
        "mastaf-fewshot train --features a.zarr --shots 1",
        "mastaf-fewshot trian --features a.zarr",
        "mastaf-fewshot train --shot 1",
        "mastaf-fewshot train --features a.zarr --shot one",
        "mastaf-fewshot",
        "torchrun -m mastaf.pipelines finetune --recipies tail",
    ],
)
def test_a_wrong_command_line_is_refused(line: str) -> None:
    with pytest.raises(click.UsageError):
        check_line(line.split())


@pytest.mark.parametrize(
    "line", ["pip install mastaf[cuda]", "make tea", "curl x", "python benchmarks/fewshot.py --round 3"]
)
def test_what_does_not_exist_is_refused(line: str) -> None:
    with pytest.raises(AssertionError):
        check_line(line.split())


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {FACTS['version']}\n" in citation
    assert f"version = {{{FACTS['version']}}}" in (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
