"""`mastaf classify`: from the start of a process to its answer, and what a thousand classes cost.

    python benchmarks/classify.py                      # process start to answer, second clip, --help
    python benchmarks/classify.py --classes 5,1000     # made-up cubes of five clips a class, a process for each

Prints Markdown for docs/benchmarks.md. With --classes the plain side is what must be multiplied in any case: for
Neighbor the class means [way, c] with a clip's, for the full MASTAF the class cubes [way * L, c] with a clip's [c, L].
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mastaf.cache.threads import spin_briefly

SHOTS, CLASSES, HEADS = 5, ("rock", "chase", "teleport"), ("neighbor", "full")


def main() -> None:
    spin_briefly()  # as the commands do, before torch is there
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", help="numbers of made-up classes, such as 5,1000, in place of the command line")
    parser.add_argument("--head", choices=HEADS, help="measure one head in this process, and print JSON")
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.head:
            print(json.dumps(_many_classes(Path(folder), int(asked.classes), asked.head)))
        elif asked.classes:
            _table_of_classes(asked.classes.split(","))
        else:
            _command_line(Path(folder), asked.repeat)


def _command_line(folder: Path, repeat: int) -> None:
    clips = [_ten_seconds(folder / f"ten{number}.mp4", hue=90 * number) for number in range(2)]
    classes, mastaf = folder / "my.classes", [sys.executable, "-m", "mastaf.pipelines"]
    enrol = [*mastaf, "enrol", "--support", _render_support(folder), "--out", classes]
    rows = [("`mastaf enrol`, 3 classes x 5 clips of 1 s", _seconds(enrol, repeat))]
    classify = [*mastaf, "classify", "--classes", classes, clips[0]]
    rows.append(("`mastaf classify`, one clip of 10 s (340 x 256, 30 frames/s, H.264)", _seconds(classify, repeat)))
    rows.append(("... of which `import torch` alone", _seconds([sys.executable, "-c", "import torch"], repeat)))
    rows.append(("the second clip of the same call", [_second_clip(classes, clips) for _ in range(repeat)]))
    for name in ("", "enrol ", "classify "):
        rows.append((f"`mastaf {name}--help`", _seconds([*mastaf, *name.split(), "--help"], repeat)))
    print("| | seconds, median (least to most) | of a processor |\n|---|---|---|")
    for what, found in rows:
        wall, used = [one[0] for one in found], statistics.median(one[1] for one in found)
        print(f"| {what} | {statistics.median(wall):.2f} ({min(wall):.2f} to {max(wall):.2f}) | {used:.2f} |")


def _ten_seconds(path: Path, hue: int) -> Path:
    from mastaf.extract.decoding.ffmpeg import ffmpeg_exe

    source = ("-f", "lavfi", "-i", f"testsrc2=size=340x256:rate=30:duration=10,hue=h={hue},format=yuv420p")
    subprocess.run([ffmpeg_exe(), "-loglevel", "error", *source, str(path)], check=True)
    return path


def _render_support(folder: Path) -> Path:
    from mastaf.extract.datasets.motion import render_motion

    render_motion(folder / "motion", clips_per_class={"train": 1, "val": 1, "test": SHOTS})
    (folder / "support").mkdir()
    for name in CLASSES:
        (folder / "motion" / "test" / name).rename(folder / "support" / name)
    return folder / "support"


def _second_clip(classes: Path, clips: Sequence[Path]) -> tuple[float, float]:
    """Seconds from the first answer of a new process to its second, by the clock and of its processor time."""
    program = (
        "from mastaf.cache.threads import spin_briefly\nspin_briefly()\n"
        "import sys, time\nfrom pathlib import Path\n"
        "from mastaf.pipelines.own_videos.classifier import FewShotClassifier\n"
        "answers = FewShotClassifier.load(sys.argv[1]).answers([Path(p) for p in sys.argv[2:]])\n"
        "next(answers)\nstart, used = time.monotonic(), time.process_time()\nnext(answers)\n"
        "print(time.monotonic() - start, time.process_time() - used)\n"
    )
    command = [sys.executable, "-c", program, *map(str, (classes, *clips))]
    wall, used = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    return float(wall), float(used)


def _table_of_classes(counts: Sequence[str]) -> None:
    print("| head | classes | file, MB | enrolment, s | memory, MB | file to first score, s | a score, ms | product |")
    print("|---|---|---|---|---|---|---|---|")
    lines = []
    for head in HEADS:
        for count in counts:
            command = [sys.executable, __file__, "--classes", count, "--head", head]
            found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
            print(
                f"| {head} | {count} | {found['file_mb']:.1f} | {found['enrol_s']:.2f} | {found['memory_mb']:.0f} "
                f"| {found['read_s']:.2f} | {found['score_ms']:.2f} | {found['product_ms']:.2f} |"
            )
            lines.append(
                f"| {head} | {count} | {found['clip_ms']:.1f} | {found['clip_ms'] - found['product_ms']:.1f} |"
            )
    print("\n| head | classes | a clip of 10 s, ms | without the product |\n|---|---|---|---|")
    print("\n".join(lines))


def _many_classes(folder: Path, way: int, head: str) -> dict[str, float]:
    """Enrolment and answers with made-up cubes of r3d-tiny's shape."""
    import torch
    from mastaf.extract.backbones.registry import load_backbone
    from mastaf.extract.recipe import make_spec
    from mastaf.fewshot.checkpoint import build_method
    from mastaf.pipelines.own_videos.answering import Answering
    from mastaf.pipelines.own_videos.calibrating import calibrate_classes
    from mastaf.pipelines.own_videos.classes_file import read_classes, write_classes
    from mastaf.pipelines.own_videos.enrolment import Enrolment, Example
    from mastaf.pipelines.own_videos.live import LiveNetwork, head_facts

    backbone = load_backbone("r3d-tiny")
    network = LiveNetwork(backbone, weights="", precision="auto", device="cpu", known=None)
    spec = make_spec(backbone, views=("plain",), sampling="even", precision=network.precision)
    torch.manual_seed(0)
    facts, tensors = head_facts("mastaf", build_method("mastaf", {"variant": head}, spec=spec, n_train_classes=0))
    cubes = _cubes(way, spec.cube_shape)
    examples = tuple(
        Example(class_name=f"class {n // SHOTS}", name=str(n), sha256=f"{n:064x}") for n in range(len(cubes))
    )
    made = {"spec": spec, "network": network.facts, "head": facts, "head_tensors": tensors}
    work: dict[str, Any] = {"weights": None, "device": "cpu", "workers": None, "timeout_s": 60.0}
    before = _peak_mb()
    start = time.monotonic()
    enrolment = Enrolment(**made, examples=examples, cubes=cubes)
    calibrate_classes(Answering(enrolment, **work).scorer, enrolment, store=None, reject_rate=0.05)
    write_classes(folder / "my.classes", enrolment)
    enrol_s, memory = time.monotonic() - start, _peak_mb() - before
    start = time.monotonic()
    answering = Answering(read_classes(folder / "my.classes"), **work)
    answering.scored(cubes[0])
    read_s = time.monotonic() - start
    clips = [_ten_seconds(folder / "ten.mp4", hue=0)] * 41
    of_clips = answering.clips(clips)
    next(of_clips)
    each = _times(lambda: next(of_clips), 40)
    return {
        "file_mb": (folder / "my.classes").stat().st_size / 1e6,
        "enrol_s": enrol_s,
        "memory_mb": memory,
        "read_s": read_s,
        "score_ms": 1e3 * statistics.median(_times(lambda: answering.scored(cubes[0]), 50)),
        "product_ms": 1e3 * statistics.median(_times(_product(cubes, head), 50)),
        "clip_ms": 1e3 * statistics.mean(each),
    }


def _product(cubes: np.ndarray, head: str) -> Callable[[], object]:
    """What is multiplied for one clip, alone."""
    import torch

    n, c = cubes.shape[:2]
    means = torch.from_numpy(cubes).unflatten(0, (n // SHOTS, SHOTS)).float().mean(1).flatten(2)  # [way, c, L]
    if head == "neighbor":
        pooled = means.mean(-1)  # [way, c]
        return lambda: pooled @ pooled[0]
    classes = means.transpose(1, 2).reshape(-1, c)  # [way * L, c]
    return lambda: classes @ means[0]


def _cubes(way: int, shape: tuple[int, ...]) -> np.ndarray:
    """Each class has a direction of its own: float16 [way * shots, c, t, h, w]."""
    rng = np.random.default_rng(0)
    found = np.empty((way, SHOTS, *shape), np.float16)
    for cubes in found:
        direction = rng.standard_normal((shape[0], 1, 1, 1), np.float32)
        cubes[:] = direction + rng.standard_normal((SHOTS, *shape), np.float32)
    return found.reshape(-1, *shape)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _times(run: Callable[[], object], repeat: int) -> list[float]:
    found = []
    for _ in range(repeat):
        start = time.monotonic()
        run()
        found.append(time.monotonic() - start)
    return found


def _seconds(command: Sequence[object], repeat: int) -> list[tuple[float, float]]:
    """Seconds of a command, by the clock and of processors."""
    found = []
    for _ in range(repeat):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        (wall,) = _times(lambda: subprocess.run([*map(str, command)], check=True, capture_output=True), 1)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return found


if __name__ == "__main__":
    main()
