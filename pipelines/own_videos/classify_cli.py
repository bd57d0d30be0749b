"""The command `mastaf classify`."""

from pathlib import Path
from typing import Any

import click

from ...cache import console
from ...fewshot import cli_options as options
from .enrol_cli import WORK


def _seconds(name: str, metavar: str, help: str, **settings: Any) -> Any:
    return click.option(name, type=click.FloatRange(0, min_open=True), metavar=metavar, help=help, **settings)


@click.command("classify")
@click.argument("clips", nargs=-1, type=click.Path(path_type=Path), metavar="[CLIP|FOLDER]...")
@options.path_option("--classes", metavar="FILE", required=True, help="File that `mastaf enrol` wrote.")
@_seconds("--window", "SECONDS", "Answer long videos by segments, from windows of this length.")
@_seconds("--stride", "SECONDS", "From one window to the next  [default: half a window].")
@options.path_option("--watch", metavar="DIR", help="Then go on with each video that comes into this folder.")
@_seconds("--every", "SECONDS", "How often --watch looks  [default: 1].")
@_seconds("--until-idle", "SECONDS", "End --watch when nothing has come for so long  [default: never].")
@options.path_option("--jsonl", metavar="FILE", help="Also write a line of JSON for each answer; - for the terminal.")
@options.path_option("--csv", metavar="FILE", help="Also write a CSV line for each answer; - for the terminal.")
@click.option("--weights", metavar="FILE|DIR", help="Weights of the backbone, where they have moved.")
@WORK
@console.json_option
def command(clips: tuple[Path, ...], classes: Path, watch: Path | None, json_file: Path | None, **given: Any) -> int:
    """Classify clips by the classes that `mastaf enrol` wrote.

    Each line says the class, how probable it is, and the next one; below the threshold that enrolment learnt, that none
    of the classes fits. Of a FOLDER every video in it is a clip. What cannot be read is named, and the rest goes on.

    \b
    Examples:
      mastaf classify --classes my.classes clip.mp4 folder/
      mastaf classify --classes my.classes --window 4 match.mp4 --csv match.csv
      mastaf classify --classes my.classes --watch inbox/ --jsonl answers.jsonl
    """
    if not clips and watch is None:
        raise click.UsageError("give a clip, a folder, or --watch DIR")
    alone = [name for name in ("every", "until_idle") if given[name] is not None]
    if watch is None and alone:
        raise click.UsageError(f"--{alone[0].replace('_', '-')} is for --watch DIR; give that, too, or leave it out")
    from .classifying import classify

    found = classify(clips, classes, watch=watch, keep=json_file is not None, **options.given(given))
    console.write_summary(json_file, found)
    return console.FINISHED_WITH_FAILURES if found["failed"] else console.DONE
