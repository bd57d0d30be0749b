"""`mastaf serve`: the page on an address of this machine, until it is stopped."""

import ipaddress
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from ...cache import console
from ...cache.extras import require_extra
from ..errors import PipelineError
from .desk import Desk, Limits
from .guard import App, Guard


def serve(*, host: str, port: int, limits: Limits, device: str, **settings: Any) -> None:
    """Serve until the process is stopped. settings: of `Desk`. Raises PipelineError where the address cannot be had."""
    for module in ("gradio", "matplotlib"):
        require_extra(module, extra="ui", wanted_by="the page")
    with _bound(host, port) as door, tempfile.TemporaryDirectory(prefix="mastaf-serve-") as folder:
        desk = Desk(device=device, limits=limits, **settings)
        local = _is_local(host)
        if not local:
            console.say(f"note: whoever reaches {host} may use this page: it asks nobody for a password")
        app = make_app(desk, Path(folder), local=local)
        place = f"[{host}]" if ":" in host else host
        console.say(f"http://{place}:{door.getsockname()[1]}/ (stop with Ctrl-C)")
        _run(app, door)


def make_app(desk: Desk, folder: Path, *, local: bool) -> App:
    """The page as an ASGI application. folder: of the uploads, for this page alone; local: see `Guard`."""
    # Read by the library when it is imported and when it makes a page.
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_SSR_MODE": "False",
    }
    import gradio as gr
    from fastapi import FastAPI

    from .page import build_page

    page, look = build_page(desk)
    inner = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page.queue(max_size=20),
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=["/"],
        show_error=False,
        max_file_size=desk.limits.clip_mb * 10**6,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        **look,
    )
    how = {"waiting_bytes": desk.limits.waiting_bytes, "timeout_s": desk.limits.timeout_s, "local": local}
    return Guard(inner, folder=folder, **how)


def _run(app: App, door: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, timeout_graceful_shutdown=2, ws="none"
    )
    with console.until_interrupted():
        uvicorn.Server(config).run(sockets=[door])
    console.say("stopped")


def _bound(host: str, port: int) -> socket.socket:
    """A socket of this address; port 0 for any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    door = socket.socket(family, socket.SOCK_STREAM)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen()  # whoever is told the address may come at once, and waits
    except OSError as error:
        door.close()
        reason = error.strerror or str(error)
        raise PipelineError(f"host ({host}) and port ({port}) must be free here ({reason}); give another") from error
    return door


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
