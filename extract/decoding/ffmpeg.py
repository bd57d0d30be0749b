"""Run ffmpeg on files from strangers: bounded time, memory, output and log, no shell, no network, no file written.

A crash, a hang or a flood in a decoder costs one video: the process is killed with everything it started and the
caller gets a `VideoError` of one line.
"""

import contextlib
import os
import resource
import selectors
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

from ..errors import ExtractError, VideoError
from .ffmpeg_log import MEANINGS, last_error
from .processes import kill_group, watched

MAX_MEMORY = 4 << 30  # bytes of address space for one ffmpeg; 16 reference frames of an 8K video need 0.8 GB
MAX_SECONDS = 24 * 3600  # of processor time for one ffmpeg that reads a long video
FILE = "file:?"  # stands for the one input file in an ffmpeg-python graph
_LOG_TAIL = 32768  # bytes of stderr kept; a damaged video can log without end
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Finished:
    """What one run of ffmpeg left: exit status, the bytes of its standard output, the end of its log."""

    status: int
    output: bytearray
    log: str


def ffmpeg_exe() -> str:
    """The ffmpeg to run: $MASTAF_FFMPEG (version 5.1 or newer), else the static binary of `imageio-ffmpeg`."""
    override = os.environ.get("MASTAF_FFMPEG")
    if override:
        if not os.access(override, os.X_OK):
            raise ExtractError(
                f"MASTAF_FFMPEG ({override}) must be an executable file; unset it for the bundled ffmpeg"
            )
        return override
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise ExtractError(
            "imageio-ffmpeg has no binary for this platform; set MASTAF_FFMPEG to an ffmpeg of 5.1 or newer"
        ) from error


def ffmpeg_version() -> str:
    """The first line of `ffmpeg -version`. ExtractError when what would be run is no ffmpeg: no video would work."""
    exe = ffmpeg_exe()
    about = Path(exe).stat()
    return _version_of(exe, (about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size))


@lru_cache(maxsize=4)
def _version_of(exe: str, state: tuple[int, ...]) -> str:
    """Of a program as it is now; a run asks for it several times."""
    answer = subprocess.run([exe, "-version"], capture_output=True, text=True, check=False, timeout=60)
    first, _, _ = answer.stdout.partition("\n")
    if answer.returncode or not first.startswith("ffmpeg version"):
        raise ExtractError(f"'{exe} -version' must answer as ffmpeg does; mend or unset MASTAF_FFMPEG")
    return first


def command_line(stream: Any, file: Path | None = None) -> list[str]:
    """The arguments for an ffmpeg-python output; its input `FILE`, if it has one, becomes `file`.

    A name is put in last because ffmpeg-python cannot take one that is not UTF-8.
    """
    # `file:` and an absolute path: no character of a name has a meaning after it.
    name = f"file:{file.absolute()}" if file else FILE
    return [name if part == FILE else part for part in stream.compile(cmd=ffmpeg_exe())]


def run_ffmpeg(command: Sequence[str], *, deadline: float, max_output: int, stdin: bytes = b"") -> Finished:
    """Run `command` to its end and return what it left, whatever its status.

    deadline: a `time.monotonic()` moment; past it the process group is killed and VideoError says so.
    max_output: bytes; a process that writes more is killed, VideoError.
    stdin: fed to the process; without it standard input is closed.
    """
    output, log = bytearray(), bytearray()
    seconds = int(max(deadline - time.monotonic(), 1)) * 4 + 4  # of all its threads; outlives us if we are killed
    with _started(command, seconds, with_stdin=bool(stdin)) as process:
        for piece in _exchange(process, lambda: deadline, stdin, log):
            output.extend(piece)
            if len(output) > max_output:
                raise VideoError(f"ffmpeg wrote more than the {max_output} bytes that were asked for")
        process.wait(timeout=max(deadline - time.monotonic(), 0.01))
    return Finished(process.returncode, output, log.decode("utf-8", "replace"))


def stream_ffmpeg(command: Sequence[str], *, patience_s: float, log: bytearray) -> Iterator[bytes]:
    """Run `command` and yield what it writes, as it writes it; it waits while nobody takes it.

    patience_s: how long it may write nothing before it is killed with a VideoError, as it is when it does not end well.
    log: gets the end of its log.
    """
    since = [time.monotonic()]
    with _started(command, MAX_SECONDS, with_stdin=False) as process:
        for piece in _exchange(process, lambda: since[0] + patience_s, b"", log):
            yield piece
            since[0] = time.monotonic()  # what our reader took is not the decoder's
        process.wait(timeout=patience_s)
    raise_if_failed(Finished(process.returncode, bytearray(), log.decode("utf-8", "replace")))


@contextlib.contextmanager
def _started(command: Sequence[str], seconds: int, *, with_stdin: bool) -> Iterator[subprocess.Popen[bytes]]:
    """A running process within its bounds; nothing of it is left behind. seconds: of processor time."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE if with_stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A group of its own, so that all of it can be killed; without this Ctrl-C would look like a broken video.
        start_new_session=True,
        # FFREPORT would make ffmpeg write a log file.
        env={name: value for name, value in os.environ.items() if name != "FFREPORT"},
    )
    try:
        with watched(process):
            _limit(process.pid, seconds)
            yield process
    except subprocess.TimeoutExpired as error:
        raise VideoError("ffmpeg took too long on this video and was stopped (--timeout allows more)") from error
    finally:
        _end(process)


class UnreadableError(VideoError):
    """ffmpeg gave up on its input; the message is ffmpeg's reason, to be put behind what the input was."""


def raise_if_failed(done: Finished) -> None:
    """VideoError when ffmpeg did not end well; UnreadableError when its reason is one for experts."""
    if done.status < 0:
        raise UnreadableError(f"the decoder crashed (signal {-done.status})")
    if done.status > 0:
        reason = last_error(done.log) or f"ffmpeg gave status {done.status} and no reason"
        raise (VideoError if reason in MEANINGS.values() else UnreadableError)(reason)


def _limit(pid: int, seconds: int) -> None:
    """Bound the memory and processor time of a running child, and forbid it to write files.

    Set from outside, because `preexec_fn` is not safe in a program with threads.
    """
    limits = {
        resource.RLIMIT_AS: MAX_MEMORY,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for which, most in limits.items():
        # Where the system forbids it (or the child is gone already) the limits of time and output still hold.
        with contextlib.suppress(PermissionError, ProcessLookupError, AttributeError, ValueError):
            resource.prlimit(pid, which, (most, most))


def _exchange(
    process: subprocess.Popen[bytes], deadline: Callable[[], float], stdin: bytes, log: bytearray
) -> Iterator[bytes]:
    """Feed stdin, yield stdout and keep the end of stderr until the process closes both."""
    todo = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_WRITE if stream is process.stdin else selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(deadline() - time.monotonic(), 0))
            if time.monotonic() >= deadline():
                raise subprocess.TimeoutExpired(process.args, 0)
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    todo = _feed(key.fd, todo)
                    finished = not todo
                else:
                    chunk = os.read(key.fd, _CHUNK)
                    finished = not chunk
                    if key.fileobj is process.stderr:
                        log.extend(chunk)
                    elif chunk:
                        yield chunk
                if finished:
                    selector.unregister(key.fileobj)
                    cast(IO[bytes], key.fileobj).close()
            del log[:-_LOG_TAIL]


def _feed(descriptor: int, todo: memoryview) -> memoryview:
    """Write what the pipe takes; the rest, or nothing when ffmpeg has closed its end."""
    try:
        return todo[os.write(descriptor, todo[:_CHUNK]) :]
    except BlockingIOError:
        return todo
    except BrokenPipeError:
        return todo[:0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process and no open pipe behind, however we got here."""
    if process.poll() is None:
        kill_group(process)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
