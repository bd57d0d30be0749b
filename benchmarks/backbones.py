"""Clips a second of each backbone as extraction runs it, against the plain float32 forward of the same network.

Random weights, random clips, all variants in turns in one process, medians over the rounds. The peak is that of a
large bfloat16 (float32) matrix product on the same device, measured in the same turns; the share of it is
FLOPs a clip x clips a second / peak. On a GPU clips are in its memory (`extract.py` times them with their way there),
and memory is what the forward held at most; `fp32` is what torch makes of it there, products in TF32.

`--compile` adds torch.compile, for chains of modules (r3d): it does not follow the hooks of hub encoders.

    python benchmarks/backbones.py [--backbones r3d,tsn,vivit] [--batch 8,64] [--rounds 5] [--device cpu] [--compile]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.registry import load_backbone
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

PEAK_SIDE = {"cpu": 4096, "cuda": 8192}


def flops_of(backbone: Backbone) -> float:
    """Floating-point operations of one clip; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.forward(some_clips(backbone, 1))
    return float(counter.get_total_flops())


def some_clips(backbone: Backbone, count: int) -> Tensor:
    shape = (count, backbone.frames, backbone.size, backbone.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def matmul(one: Tensor, other: Tensor) -> Tensor:
    return one @ other


def plain(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """The network as it was loaded, float32, eager."""

    def run(clips: Tensor) -> Tensor:
        with torch.inference_mode():
            return backbone.forward(clips).cpu()

    return run


def compiled(backbone: Backbone, precision: str, device: str) -> Callable[[Tensor], Tensor]:
    """What is prepared for inference, through torch.compile."""
    return torch.compile(backbone.prepare_for_inference(precision, device))


def seconds(run: Callable[[], object], device: str) -> float:
    start = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(backbone: Backbone, batch: int, options: argparse.Namespace) -> list[str]:
    """Rows of the table: one a variant."""
    device, kind = options.device, options.device.split(":")[0]
    clips = some_clips(backbone, batch).to(device)
    runs: dict[str, Callable[[Tensor], Tensor]] = {}
    if kind == "cpu":
        runs["plain fp32"] = plain(backbone)
    runs |= {name: backbone.prepare_for_inference(name, device) for name in ("fp32", "bf16")}
    if options.compile:
        runs["bf16, torch.compile"] = compiled(backbone, "bf16", device)
    side = PEAK_SIDE[kind]
    factors = [torch.randn(side, side, device=device, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    turns = {name: partial(run, clips) for name, run in runs.items()}
    turns |= {f"peak {name}": partial(matmul, f, f) for name, f in zip(("fp32", "bf16"), factors, strict=True)}
    cubes = {name: run(clips).flatten(1) for name, run in runs.items()}  # [b, c * t * h * w]; warms up
    taken: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(options.rounds):
        for name, turn in turns.items():
            taken[name].append(seconds(turn, device))
    median = {name: statistics.median(times) for name, times in taken.items()}
    peak = {name: 2 * side**3 / median[f"peak {name}"] for name in ("fp32", "bf16")}
    work, first = flops_of(backbone), next(iter(runs))
    rows = []
    for name in runs:
        rate, cosine = batch / median[name], torch.cosine_similarity(cubes[first], cubes[name], dim=1).min()
        share = work * rate / peak["bf16" if "bf16" in name else "fp32"]
        rows.append(
            f"| {backbone.name} {backbone.frames} x {backbone.size} | {work / 1e9:.0f} | {batch} | {name} | "
            f"{rate:.2f} | "
            f"{median[first] / median[name]:.1f} x | {100 * share:.0f} % | {float(cosine):.5f} |"
        )
    return rows + [f"<!-- peak of {backbone.name}: {peak['fp32'] / 1e12:.2f}, {peak['bf16'] / 1e12:.2f} TFLOP/s -->"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", default="r3d,tsn,vivit")
    parser.add_argument("--batch", default="8", help="clips a forward pass, or several with commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads\n")
    print(
        "| backbone | GFLOP a clip | batch | variant | clips/s | against the first | of the peak "
        "| cosine to the first |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.backbones.split(","):
        for batch in options.batch.split(","):
            print("\n".join(measure(load_backbone(name, weights="random"), int(batch), options)), flush=True)
            if options.device.startswith("cuda"):
                print(f"<!-- memory of {name}, {batch}: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB -->")
                torch.cuda.reset_peak_memory_stats()


if __name__ == "__main__":
    main()
