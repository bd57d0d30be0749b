"""A page for each command and subcommand, from click: what `--help` says, as Markdown."""

import html
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def nav() -> dict[str, list[Any]]:
    """The entry of the navigation."""
    entries: list[Any] = []
    for program, command in _programs():
        if isinstance(command, click.Group):
            inner = [{name: f"commands/{program}/{name}.md"} for name, _ in _subcommands(command)]
            entries.append({program: [f"commands/{program}/index.md", *inner]})
        else:
            entries.append({program: f"commands/{program}.md"})
    return {"Commands": entries}


def pages() -> dict[str, str]:
    """Page of the site -> its text."""
    found = {}
    for program, command in _programs():
        context = _context(command, program)
        if not isinstance(command, click.Group):
            found[f"commands/{program}.md"] = _page(command, context)
            continue
        found[f"commands/{program}/index.md"] = _page(command, context)
        for name, inner in _subcommands(command):
            found[f"commands/{program}/{name}.md"] = _page(inner, _context(inner, name, context))
    return found


def _programs() -> Iterator[tuple[str, click.Command]]:
    for program, target in _PROJECT["scripts"].items():
        module = importlib.import_module(target.partition(":")[0])
        yield program, getattr(module, "cli", None) or module.command


def _subcommands(group: click.Group) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [(name, command) for name, command in found if command is not None and not command.hidden]


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, max_content_width=10_000, terminal_width=10_000)


def _page(command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"# {context.command_path}", f"```text\n{usage}\n```", *_prose(command.help or "")]
    if isinstance(command, click.Group):
        rows = [
            (f"[`{name}`]({name}.md)", _text(inner.get_short_help_str(1000))) for name, inner in _subcommands(command)
        ]
        parts += ["## Commands", _table("command", rows)]
    records = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
    parts += ["## Options", _table("option", [(_code(name), _text(text)) for name, text in records if text])]
    parts += _prose(command.epilog or "")
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> Iterator[str]:
    """The paragraphs of a command's help. One that begins with \\b keeps its lines: a heading and examples."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if not paragraph.startswith("\b"):
            yield _text(" ".join(paragraph.split()))
            continue
        title, *lines = paragraph.removeprefix("\b").strip("\n").split("\n")
        yield f"## {title.strip().removesuffix(':')}"
        yield "\n".join(["```sh", *(line.strip() for line in lines), "```"])


def _table(what: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {name} | {text} |" for name, text in rows]
    return "\n".join([f"| {what} | |", "|---|---|", *lines])


def _code(text: str) -> str:
    """Code in a cell of a table, where Markdown has no way to write a bar in backticks."""
    return f"<code>{html.escape(text).replace('|', '&#124;')}</code>"


def _text(text: str) -> str:
    """Plain text that means nothing more in Markdown or HTML, but for code in backticks."""
    parts = re.split(r"(`[^`]+`)", text)
    plain = [re.sub(r"([\\*_{}\[\]#|])", r"\\\1", html.escape(part, quote=False)) for part in parts[::2]]
    return "".join(f"{words}{code}" for words, code in zip(plain, [*parts[1::2], ""], strict=True))
