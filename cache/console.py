"""What the four command lines share: exit statuses, one-line errors, progress, tables and `--json`.

It lives in `cache` because every other package may import `cache`, and nothing else is common to all.
"""

import errno
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
from click.shell_completion import CompletionItem

from .atomic import write_json
from .place import StorePath, store_path
from .text import shown

DONE, FINISHED_WITH_FAILURES, USAGE, FAULT, STOPPED, INTERRUPTED = 0, 1, 2, 70, 75, 130

# The machine ran out of something: the same command continues later.
_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ESTALE}


def run(command: click.Command, arguments: Sequence[str] | None = None) -> None:
    """Run a click command and leave the process with the project's exit status; never returns.

    A command returns None (0) or an exit status. An exception with an `exit_status` attribute is one line and
    that status; an OSError is 75 where the machine ran out of something, else 2; anything else is a fault of
    ours: 70, with the traceback.
    """
    try:
        with _ended_by_sigterm():
            status = command.main(args=None if arguments is None else list(arguments), standalone_mode=False) or DONE
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        status = leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        # Its message is the help, which is no line.
        print(error.format_message(), file=sys.stderr, flush=True)
        status = USAGE
    except click.UsageError as error:
        status = _say(_usage_line(error), USAGE)
    except click.ClickException as error:
        status = _say(error.format_message(), USAGE)
    except (KeyboardInterrupt, click.Abort) as stop:
        # click has an Abort of its own for a KeyboardInterrupt.
        ended = isinstance(stop, _TerminatedError) or isinstance(stop.__cause__, _TerminatedError)
        what, status = ("ended by SIGTERM", STOPPED) if ended else ("interrupted", INTERRUPTED)
        _say(f"{what}; the same command continues where it stopped", status)
    except BrokenPipeError:
        # The reader of our output went away (`| head`); devnull keeps the interpreter's last flush quiet.
        sys.stdout = Path("/dev/null").open("w")  # noqa: SIM115
        status = DONE
    except Exception as error:
        status = status_of(error)
        if status == FAULT:
            traceback.print_exc()
            _say("this is a fault of mastaf, not of your input; please report it with the lines above", FAULT)
        else:
            _say(_one_line(error), status)
    sys.exit(status)


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM: a scheduler takes the machine away. Cleaned up as Ctrl-C is; another exit status."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    def end(_number: int, _frame: object) -> None:
        raise _TerminatedError

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can be told
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """For what Ctrl-C is the usual end of: it ends the block, and is no error."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if isinstance(stop, _TerminatedError):
            raise


def status_of(error: Exception) -> int:
    """The exit status that an exception ends a command with, see `run`."""
    declared = getattr(error, "exit_status", None)
    if isinstance(declared, int):
        return declared
    if isinstance(error, OSError):
        return STOPPED if error.errno in _STOPPING else USAGE
    return FAULT


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _usage_line(error: click.UsageError) -> str:
    help_hint = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
    return " ".join(error.format_message().split()) + help_hint


def _say(line: str, status: int) -> int:
    print(f"error: {shown(line)}", file=sys.stderr, flush=True)
    return status


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name, with the closest known ones."""
    known = list(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
    return f"unknown {kind} '{name}'; {hint}"


def _make_room(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path | None:
    """Make the folder of the `--json` file now: at the end of a long run is too late to learn that it cannot be."""
    if value is not None:
        value.parent.mkdir(parents=True, exist_ok=True)
    return value


class _StoreType(click.ParamType):
    """A store's path, or its address in object storage."""

    name = "store"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> StorePath:
        return store_path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


STORE = _StoreType()


def several(*options: Any) -> Any:
    """The options as one decorator, shown in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def json_option(command: Any) -> Any:
    """The `--json FILE` option; pass its value to `write_summary`."""
    return click.option(
        "--json",
        "json_file",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_make_room,
        help="Also write the result as JSON to FILE.",
        metavar="FILE",
    )(command)


def write_summary(json_file: Path | None, value: Any) -> None:
    """Write the `--json` file, and the folder it is in, if one was asked for."""
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, value)


def say(line: str = "") -> None:
    """Print plain text now, also when output goes to a file; nothing in it can command the terminal."""
    click.echo("\n".join(shown(part) for part in line.split("\n")))
    sys.stdout.flush()


def table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> str:
    """A table that reads well in a terminal and is Markdown too; numbers are expected as ready strings."""
    from tabulate import tabulate

    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


class Progress(AbstractContextManager["Progress"]):
    """A live bar with rate and ETA on a terminal, and a plain line now and then otherwise (stderr)."""

    def __init__(self, total: int, what: str, unit: str, *, done: int = 0, every_s: float = 10.0) -> None:
        from tqdm import tqdm

        self._live = sys.stderr.isatty()
        self._what, self._unit, self._total = what, unit, total
        self._done, self._first = done, done
        self._every, self._start = every_s, time.monotonic()
        self._last = self._start
        self._note = ""
        self._bar = tqdm(total=total, initial=done, desc=what, unit=unit, leave=False) if self._live else None

    def advance(self, count: int = 1, note: str = "") -> None:
        """Count `count` more units done; `note` (failures so far, a loss) is shown beside the rate."""
        self._done += count
        self._note = note
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._line()

    def _line(self) -> None:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (self._done - self._first) / seconds
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate > 0 else ""
        note = f", {self._note}" if self._note else ""
        shown = f"{self._done}/{self._total} {self._unit}, {rate:.1f} {self._unit}/s{left}{note}"
        print(f"{self._what}: {shown}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
