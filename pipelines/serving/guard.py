"""What reaches the page library at all: the requests that the page itself makes, from the page itself, and no others.

The library has many more doors (files by path, proxies, histories, editors of the page). Whoever asks for anything that
is not listed here gets 404; the page needs none of it, as its pictures are inside it.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_API = "/gradio_api"
_READ = re.compile(
    rf"/|/config|/theme\.css|/manifest\.json|/favicon\.ico|/(assets|static|svelte)/[\w./-]+"
    rf"|{_API}/(queue/data|heartbeat/\w+|upload_progress|startup-events|info|app_id)"
)
_WRITE = re.compile(rf"{_API}/(upload|queue/join|cancel|reset)")
_MOST_BODY = 1 << 18  # of a request that is no upload
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


class Guard:
    """An ASGI application in front of another.

    folder: of the uploads; waiting_bytes: that may be in it at once; timeout_s: for one upload; local: only addresses
    of this machine may be asked for, so that no name of a stranger's site leads here.
    """

    def __init__(self, app: App, *, folder: Path, waiting_bytes: int, timeout_s: float, local: bool) -> None:
        self._app, self._folder, self._most = app, folder, waiting_bytes
        self._timeout_s, self._local = timeout_s, local
        self._coming = 0  # bytes of uploads at work

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope["method"], scope["path"], headers)
        if refused is not None:
            await _answer(send, *refused)
        elif scope["path"] == f"{_API}/upload":
            await self._upload(scope, receive, send, headers)
        elif scope["method"] == "POST":
            await self._post(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and words, None for a request that may pass."""
        host = headers.get("host", "")
        if self._local and host.rsplit(":", 1)[0] not in _LOCAL and host not in _LOCAL:
            return 403, "this page is for this machine alone"
        if "x-forwarded-host" in headers or "x-gradio-server" in headers:
            return 403, "this page stands behind no other server"
        allowed = _WRITE if method == "POST" else _READ if method in ("GET", "HEAD") else None
        if allowed is None or allowed.fullmatch(path) is None or ".." in path:
            return 404, "not found"
        origin = headers.get("origin")
        if method == "POST" and origin is not None and urlsplit(origin).netloc != host:
            return 403, "asked for by another page"
        return None

    async def _upload(self, scope: Any, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        length = headers.get("content-length", "")
        if not re.fullmatch("[0-9]{1,15}", length):
            await _answer(send, 411, "an upload must say how long it is")
            return
        self._sweep()
        # Those that have just begun are not below the folder yet.
        if _bytes_below(self._folder) + self._coming + int(length) > self._most:
            await _answer(send, 413, "too much is being uploaded; try again later, or a smaller clip")
            return
        self._coming += int(length)
        try:
            await self._receive(scope, receive, send)
        finally:
            self._coming -= int(length)

    async def _receive(self, scope: Any, receive: Receive, send: Send) -> None:
        """Let an upload pass, for as long as one may take."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._timeout_s):
                await self._app(scope, receive, sending)
        except TimeoutError:
            if not begun:
                await _answer(send, 408, "the upload took too long")

    def _sweep(self) -> None:
        """Delete uploads that nobody asked about in all the time that uploading and reading one may take."""
        begun = time.time() - 4 * self._timeout_s
        for path in self._folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < begun:
                    path.unlink()

    async def _post(self, scope: Any, receive: Receive, send: Send) -> None:
        """A request whose body names files: uploads alone, no path of this machine and no address elsewhere."""
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await _body(receive)
        except TimeoutError:
            await _answer(send, 408, "the request took too long")
            return
        if body is None:
            return
        if len(body) > _MOST_BODY:
            await _answer(send, 413, "the request is too long")
            return
        try:
            allowed = _names_uploads_alone(json.loads(body or b"{}"), self._folder.resolve())
        except (ValueError, RecursionError):
            allowed = False
        if not allowed:
            await _answer(send, 400, "the request names a file that was not uploaded here")
            return
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return given.pop() if given else await receive()

        await self._app(scope, again, send)


async def _body(receive: Receive) -> bytes | None:
    """The body of a request, or the first of it that is too long; None when whoever asked has gone."""
    body, more = b"", True
    while more and len(body) <= _MOST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _names_uploads_alone(value: Any, folder: Path) -> bool:
    """Whether every file in a JSON value is below a folder."""
    if isinstance(value, list):
        return all(_names_uploads_alone(part, folder) for part in value)
    if not isinstance(value, dict):
        return True
    path = value.get("path")
    if path is not None and not (isinstance(path, str) and _is_below(path, folder)):
        return False
    return all(_names_uploads_alone(part, folder) for part in value.values())


def _is_below(path: str, folder: Path) -> bool:
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):
        return False


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # deleted meanwhile
            total += path.lstat().st_size
    return total


async def _answer(send: Send, status: int, words: str) -> None:
    body = words.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
