"""The demo: the whole of mastaf on the embedded data set, with controls that show that the number means motion."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..cache import console
from ..cache.atomic import write_bytes, write_json
from ..cache.index import VideoIndex
from ..cache.store import Store, open_store
from ..extract.backbones.registry import load_backbone
from ..extract.datasets.by_name import VideoSet, find_dataset
from ..extract.run import extract
from ..fewshot.ablate import ablate_fully
from ..fewshot.evaluate import evaluate
from ..fewshot.statistics.comparison import Comparison
from ..fewshot.statistics.table import percent, text_table
from .errors import PipelineError
from .reporting.report import make_report

BACKBONE = "r3d-tiny"
_MISTAKES = 3  # of each table, on the page at the end


@dataclass(frozen=True)
class Variation:
    """A way to make cubes of the same videos: whose weights, and which frames."""

    name: str
    weights: str | None
    sampling: str


PLAIN = Variation("trained weights, frames in order", None, "even")
CONTROLS = (
    Variation("random weights", "random", "even"),
    Variation("shuffled frames", None, "shuffled"),
    # No motion is left, and appearance says nothing of the class: chance is due.
    Variation("frozen frame", None, "middle"),
)


class _Stages:
    """Announces the stages and keeps their seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        console.say(f"[{len(self.seconds) + 1}/{self._total}] {name}: {text}")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        console.say(f"      {self.seconds[name]} s")


def run_demo(
    *,
    out: Path,
    root: Path | None,
    shots: tuple[int, ...],
    episodes: int,
    train_episodes: int | None,
    workers: int | None,
    seed: int,
) -> dict[str, Any]:
    """Render, extract, train, ablate and report into `out`, continuing an earlier run. Returns the report.

    The report holds `seconds` per stage, `rows` (the ablation's result records) and `controls` (those of Neighbor
    on each control's cubes); it is also written to `out/demo.json`, and its tables to `out/demo.md`.
    """
    out.mkdir(parents=True, exist_ok=True)  # before the minute of rendering
    stages = _Stages(total=4)
    with stages.stage("render", "videos whose class is their motion alone"):
        videos = find_dataset("motion", root=root)
        console.say(f"      {videos.index!r} in {videos.root}")
    with stages.stage("extract", f"one feature cube a video, by {BACKBONE} with the weights in the package"):
        store = _extract(videos, PLAIN, out / f"motion_{BACKBONE}.zarr", workers)
        console.say(f"      cubes of {'x'.join(map(str, store.spec.cube_shape))} in {store.path}")
    with stages.stage("ablate", "MASTAF and its ablations, trained and tested on the same episodes"):
        compared = ablate_fully(
            store, rows="fusion", shots=shots, episodes=episodes, train_episodes=train_episodes, seed=seed, out=out
        )
    with stages.stage("controls", "what is left of the accuracy when something is taken away"):
        tested = replace(videos, index=_test_rows(videos.index))
        controls = {}
        for control in CONTROLS:
            path = out / "controls" / f"{control.sampling}.zarr"
            store = _extract(tested, control, path, workers)
            controls[control.name] = _neighbor(store, path.with_suffix(".neighbor"), shots, episodes)

    report = {"seconds": stages.seconds, "rows": [row.record for row in compared.rows], "controls": controls}
    _write(out, report, _report(compared, controls, shots))
    return report


def _write(out: Path, report: dict[str, Any], text: str) -> None:
    """Write and show the report, and the page of everything in the folder."""
    console.say("\n" + text)
    write_json(out / "demo.json", report)
    write_bytes(out / "demo.md", (text + "\n").encode())
    seconds = sum(report["seconds"].values())
    console.say(f"\nwritten to {out / 'demo.md'} and {out / 'demo.json'}; {seconds:.0f} s in all")
    page = make_report(out, mistakes=_MISTAKES)
    console.say(f"a page to look at, in any browser: {page['out']} ({page['bytes'] / 1e6:.1f} MB)")


def _extract(videos: VideoSet, variation: Variation, path: Path, workers: int | None) -> Store:
    """The store of the videos' cubes made in this way, finished if an earlier run left it unfinished."""
    backbone = load_backbone(BACKBONE, weights=variation.weights)
    summary = extract(videos, backbone, out=path, sampling=variation.sampling, workers=workers)
    if summary.failed:
        first = summary.failures[0]
        raise PipelineError(
            f"{summary.failed} rendered videos cannot be read ({first['key']}: {first['reason']}); "
            f"delete {videos.root} and {path}, and run again"
        )
    return open_store(path)


def _test_rows(index: VideoIndex) -> VideoIndex:
    """The test videos alone. Keys and order are kept, so the test episodes are those of the whole index."""
    kept = [i for i, split in enumerate(index.splits) if split == "test"]
    return VideoIndex.from_columns({k: [column[i] for i in kept] for k, column in index.to_columns().items()})


def _neighbor(store: Store, out: Path, shots: tuple[int, ...], episodes: int) -> list[dict[str, Any]]:
    """Result records of Neighbor, which has no parameters, for each shot."""
    neighbor = {"variant": "neighbor"}
    return [evaluate(store, method_keywords=neighbor, shot=shot, episodes=episodes, out=out) for shot in shots]


def _report(compared: Comparison, controls: dict[str, list[dict[str, Any]]], shots: tuple[int, ...]) -> str:
    """The demo's two tables as Markdown."""
    plain = [row.record for row in compared.rows if row.name == "neighbor"]
    lines = [[name, *map(_percent, records)] for name, records in {PLAIN.name: plain, **controls}.items()]
    return "\n".join(
        [
            "MASTAF and its ablations on motions that were never seen in training.",
            text_table(compared),
            "",
            "The backbone is frozen, and attention moves a pooled cube by a few hundredths at most: expect differences",
            "of tenths of a point. The paper's larger ones come with fine-tuning the backbone.",
            "",
            "Controls, all scored by Neighbor, which has no parameters, on the same episodes:",
            "",
            console.table(lines, ["cubes", *(f"{shot}-shot" for shot in shots)]),
        ]
    )


def _percent(record: dict[str, Any]) -> str:
    return percent(record["accuracy"], record["ci95"])
