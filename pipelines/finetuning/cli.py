"""The command `mastaf finetune`."""

import os
from pathlib import Path
from typing import Any

import click

from ...cache import console
from ...cache.completion import Names
from ...fewshot import cli_options as options
from . import RECIPES
from .cli_options import EPISODES, MOVES, THEN, VIDEOS


@click.command("finetune")
@click.option(
    "--recipe",
    metavar="NAME",
    type=Names(lambda: RECIPES, several=True),
    default="classify",
    show_default=True,
    help=f"How to train: {', '.join(RECIPES)}; with --then also classify,episodic.",
)
@VIDEOS
@EPISODES
@MOVES
@THEN
@console.json_option
def command(json_file: Path | None, augment: str | None, freeze: str | None, **given: Any) -> int:
    """Fine-tune a backbone on a data set's train classes, and write weights that `--weights` takes.

    classify trains the backbone by cross-entropy; episodic trains it together with a few-shot head, as the paper does;
    tail trains its last stages and a head from stored cubes of a middle stage. Test classes are never seen, so the
    few-shot tests on them stay honest. Stopped at any moment, the same command continues.

    \b
    Examples:
      mastaf finetune --backbone r3d-tiny --dataset motion --recipe classify --weights random
      mastaf finetune --backbone r3d --dataset hmdb51 --weights r3d50_KMS_200ep.pth --epochs 10 --batch 8
      mastaf-extract --backbone r3d --dataset hmdb51 --weights runs/hmdb51_r3d_classify/backbone.safetensors
      mastaf finetune --backbone r3d --dataset hmdb51 --recipe episodic --batch 16 --checkpointing
      mastaf finetune --recipe tail --features cache/hmdb51_r3d_layer3.zarr
      mastaf finetune --recipe classify,episodic --then extract,ablate --backbone r3d --dataset hmdb51
    """
    if given["then"] is None and (given["test_episodes"] or given["head_episodes"]):
        raise click.UsageError("--test-episodes and --head-episodes belong to --then extract,ablate; leave them out")
    if given["epochs"] and given["steps"]:
        raise click.UsageError("--epochs and --steps say the same thing; give one of them")
    keywords = options.method_keywords(given)
    recipes, asked = given.pop("recipe").split(","), options.given({**given, "method_keywords": keywords or None})
    asked = {name: value for name, value in asked.items() if value is not False}
    for name, text in (("augmentations", augment), ("freeze", freeze)):
        if text is not None:
            asked[name] = tuple(part for part in text.split(",") if part not in ("", "none"))
    if "then" in asked:
        return _and_then(json_file, recipes, asked.pop("then").split(","), asked)
    from .finetune import finetune

    summary = finetune(recipe=",".join(recipes), **asked)
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        return console.DONE
    console.write_summary(json_file, summary)
    for line in _lines(summary):
        console.say(line)
    return console.FINISHED_WITH_FAILURES if summary["failures"] else console.DONE


def _and_then(json_file: Path | None, recipes: list[str], then: list[str], asked: dict[str, Any]) -> int:
    """`--then`: its own exit status."""
    from .then import finetune_then

    summary = finetune_then(recipes=recipes, then=then, **asked)
    console.write_summary(json_file, summary)
    console.say(f"\nwritten to {summary['out']}")
    return console.FINISHED_WITH_FAILURES if any(f["failures"] for f in summary["tuned"].values()) else console.DONE


def _lines(summary: dict[str, Any]) -> list[str]:
    result, seen = summary["result"], summary["facts"]["classes_seen"][-1]
    accuracy = f", accuracy {result['accuracy']:.3f}" if "accuracy" in result else ""
    lines = [
        f"trained on {summary['clips']} clips of {len(seen['classes'])} classes",
        f"last tenth: loss {result['loss']:.3f}{accuracy}",
    ]
    if "val_accuracy" in result:
        best = f"{100 * result['val_accuracy']:.1f} +- {100 * result['val_ci95']:.1f} %"
        lines.append(f"best on val: {best} after step {result['chosen_step']} of {result['steps']}")
    lines.append(f"weights: {summary['weights']} (sha256 of the tensors {summary['weights_sha256'][:12]}...)")
    if summary["head"]:
        lines.append(f"head: {summary['head']}")
    lines.append(f"next: {summary['next']}")
    lines += [f"failed: {failure['key']}: {failure['reason']}" for failure in summary["failures"]]
    return lines
