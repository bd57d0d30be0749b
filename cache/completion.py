"""Types of options that take names, which a shell completes."""

from collections.abc import Callable, Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem


class Names(click.ParamType):
    """A name, or with `several` names separated by commas; with `or_file` a file's path will do too.

    names: those that are completed, asked for then alone: plug-ins may come and go. Nothing is checked here.
    """

    name = "name"

    def __init__(self, names: Callable[[], Iterable[str]], *, several: bool = False, or_file: bool = False) -> None:
        self._names, self._several, self._or_file = names, several, or_file

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",") if self._several else ("", "", incomplete)
        found = [CompletionItem(f"{before}{comma}{name}") for name in self._names() if name.startswith(last)]
        return [CompletionItem(incomplete, type="file")] if self._or_file and not found else found
