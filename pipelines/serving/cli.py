"""The command `mastaf serve`."""

from typing import Any

import click

from ...cache import console
from ...fewshot import cli_options as options
from ..own_videos.enrol_cli import HEAD, NETWORK


@click.command("serve")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; the default is this machine alone."
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, help="0: any that is free.")
@NETWORK
@HEAD
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--max-mb", "clip_mb", type=click.IntRange(1), default=200, show_default=True, help="Largest upload.")
@click.option("--max-classes", "classes", type=click.IntRange(2), default=20, show_default=True, help="Of one visitor.")
@click.option("--max-clips", "clips", type=click.IntRange(1), default=20, show_default=True, help="Of one class.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1),
    default=60.0,
    show_default=True,
    help="Seconds to upload a clip, and to read it.",
)
def command(**given: Any) -> int:
    """A local web page: drop a few clips of each class, drop a query, see label, scores and attention.

    Listens on this machine alone unless --host says otherwise; it asks nobody for a password. Clips are deleted once
    they were read, and what a visitor enrolled is forgotten an hour later. Needs pip install 'mastaf[ui]'.

    \b
    Examples:
      mastaf serve
      mastaf serve --backbone r3d --weights r3d50_KMS_200ep.pth --checkpoint runs/NAME --port 8000
    """
    keywords = options.method_keywords(given)
    from .desk import Limits
    from .serve import serve

    named = ("clip_mb", "classes", "clips", "timeout_s")
    limits = Limits(**{name: given.pop(name) for name in named})
    serve(limits=limits, method_keywords=keywords, **options.given(given))
    return console.DONE
