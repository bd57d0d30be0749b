"""The command `mastaf-fewshot push`, and the type of options that take a run by its path or its name on the hub."""

from pathlib import Path
from typing import Any

import click

from ...cache import console


class _RunType(click.ParamType):
    """A run's folder or weights file, or `hf:USER/REPO[@REVISION]`, which is fetched."""

    name = "run"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value).startswith("hf:"):
            return Path(value)
        from .fetch import run_path

        return run_path(value)


RUN = _RunType()


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="USER/REPO", help="Repository on the hub; made if it is not there.")
@click.option("--private", is_flag=True, help="Make the repository private.")
@click.option("--license", "licence", metavar="NAME", help="Licence of the weights, as the hub calls it (apache-2.0).")
@console.json_option
def push(run: Path, json_file: Path | None, **given: Any) -> int:
    """Push a finished run to the Hugging Face hub: settings, chosen weights, results and a model card, in one commit.

    The token is found as by the hub's own tools: HF_TOKEN, or `hf auth login`. Every --checkpoint takes the run back as
    hf:USER/REPO, or hf:USER/REPO@REVISION. Paths of this machine are not pushed. Records that do not follow from their
    predictions, or are of other weights, are named and left out, and the exit status is then 1.

    \b
    Examples:
      mastaf-fewshot push runs/NAME --to me/mastaf-hmdb51 --private
      mastaf-fewshot evaluate --features cache/hmdb51_r3d.zarr --checkpoint hf:me/mastaf-hmdb51
    """
    from .push import push_run

    found = push_run(run, **given)
    for reason in found["left_out"]:
        console.say(f"left out: {reason}")
    console.say(f"pushed {len(found['files'])} files with {found['results']} results to {found['url']}")
    console.say(f"take it back with --checkpoint {found['checkpoint']}, or this very state with @{found['commit']}")
    console.write_summary(json_file, found)
    return console.FINISHED_WITH_FAILURES if found["left_out"] else console.DONE
