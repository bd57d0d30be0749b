"""The command `mastaf finetune`."""

from pathlib import Path
from typing import Any

import click

from ...cache import console


@click.command("finetune")
@click.option("--backbone", default="r3d-tiny", show_default=True, help="Name of the backbone.")
@click.option("--dataset", default="motion", show_default=True, help="A data set's name, or a CSV file.")
@click.option("--recipe", type=click.Choice(["classify"]), default="classify", show_default=True, help="How to train.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the videos  [default: data/<dataset>].")
@click.option("--split-files", type=click.Path(path_type=Path), help="Folder of the published split's list files.")
@click.option("--follow-links", is_flag=True, help="Also read videos whose symbolic links leave the root.")
@click.option(
    "--weights", metavar="FILE|DIR|hub|random", help="Where to start; random: from nothing  [default: its own]."
)
@click.option("--revision", metavar="NAME", help="Branch, tag or commit of weights on the hub  [default: main].")
@click.option("--frames", type=click.IntRange(1), help="Frames of a clip  [default: the backbone's].")
@click.option("--size", type=click.IntRange(1), help="Side of a clip in pixels  [default: the backbone's].")
@click.option("--resize", type=click.Choice(["squash", "short"]), default="squash", show_default=True)
@click.option("--epochs", type=click.FloatRange(0, 1e6, min_open=True), help="Rounds over the clips  [default: 40].")
@click.option("--steps", type=click.IntRange(1), help="Updates, instead of --epochs.")
@click.option("--batch", type=click.IntRange(2), default=32, show_default=True, help="Clips per update.")
@click.option(
    "--lr", type=click.FloatRange(0, min_open=True), help="[default: 2e-3 from random weights, 2e-4 from trained ones]"
)
@click.option("--weight-decay", type=click.FloatRange(0), default=0.05, show_default=True, help="Of AdamW.")
@click.option("--augment", help="Of shift,channels,invert,flip,speed, or 'none'  [default: by data set].")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option("--workers", type=click.IntRange(1), help="Decoding threads  [default: one a core].")
@click.option(
    "--weights-dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Stored as.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of all random choices, a folder's class split among them: give `mastaf-extract` the same.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Output folder  [default: runs/<dataset or folder>_<backbone>_<recipe>].",
)
@console.json_option
def command(json_file: Path | None, augment: str | None, **options: Any) -> int:
    """Fine-tune a backbone on a data set's train classes, and write weights that `--weights` takes.

    Val and test classes are never seen, so the few-shot tests on them stay honest.

    \b
    Examples:
      mastaf finetune --backbone r3d-tiny --dataset motion --recipe classify --weights random
      mastaf finetune --backbone r3d --dataset hmdb51 --weights r3d50_KMS_200ep.pth --epochs 10 --batch 8
      mastaf-extract --backbone r3d --dataset hmdb51 --weights runs/hmdb51_r3d_classify/backbone.safetensors
    """
    if options["epochs"] and options["steps"]:
        raise click.UsageError("--epochs and --steps say the same thing; give one of them")
    from .finetune import finetune

    names = None if augment is None else [name for name in augment.split(",") if name not in ("", "none")]
    summary = finetune(augmentations=names, **options)
    console.write_summary(json_file, summary)
    result = summary["result"]
    console.say(
        f"trained on {summary['clips']} clips of {len(summary['facts']['classes_seen'][-1]['classes'])} classes"
    )
    console.say(f"last tenth: loss {result['loss']:.3f}, accuracy {result['accuracy']:.3f}")
    console.say(f"weights: {summary['weights']} (sha256 of the tensors {summary['weights_sha256'][:12]}...)")
    for failure in summary["failures"]:
        console.say(f"failed: {failure['key']}: {failure['reason']}")
    return console.FINISHED_WITH_FAILURES if summary["failures"] else console.DONE
