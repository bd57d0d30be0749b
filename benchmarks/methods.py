"""Episodes a second of every head, and three of them against plain versions of the same equations.

5-way episodes with one query, of cubes 2048 x 8 x 7 x 7 with 16 bits in a bank, scored as `evaluate` scores a list: a
list begins with reading each of its videos once, which is told apart. The plain versions (`plain_methods.py`) have what
they read of videos in memory, ours read cubes. Both sides take turns in this process; ratios are those of
medians over the rounds. Give GOMP_SPINCOUNT=3000, as the commands do for themselves.

    python benchmarks/methods.py [--rounds 3] [--seconds 4] [--only trx,otam] [--shot 1] [--store bench.zarr]
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plain_methods
import torch
from fewshot_store import make_store
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.cubes.reduced import mean_cubes
from mastaf.fewshot.episodes.episode import EpisodeRows
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.base import Method
from mastaf.fewshot.methods.otam import OTAM
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.methods.trx import TRX
from mastaf.fewshot.scoring import score_episodes
from torch import Tensor

CUBE, VIDEOS = (2048, 8, 7, 7), {"train": (12, 12), "test": (10, 250)}
Plain = Callable[[Tensor, Tensor], Tensor]

PART, MOST = 32, 128  # episodes that lists are made of, and how often they repeat them


def draw(bank: FeatureBank, shot: int, count: int) -> EpisodeRows:
    """5-way episodes with a single query."""
    drawn = {"way": 5, "shot": shot, "query_mode": "single", "queries": 1}
    return EpisodeSampler(keys=bank.keys, classes=bank.classes, split=bank.split, seed=0, **drawn).rows(0, count)


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    call()
    return clock() - start


def build(name: str) -> Method:
    torch.manual_seed(0)
    return load_method(name).build(cube_shape=CUBE, n_train_classes=VIDEOS["train"][0]).eval()


def rate(method: Method, bank: FeatureBank, options: argparse.Namespace) -> tuple[float, float, int]:
    """Episodes a second, without what a list begins with, that beginning in seconds, and how many were taken.

    Lists repeat a short one, so that a longer list asks for the same videos.
    """
    part, copies = draw(bank, options.shot, PART), 2
    once = [time_list(method, bank, part, 1) for _ in range(4)][1:]  # the first one warms up
    whole = [time_list(method, bank, part, 1 + copies)]
    while whole[0] - min(once) < options.seconds and copies < MOST:
        copies *= 4
        whole = [time_list(method, bank, part, 1 + copies)]
    whole += [time_list(method, bank, part, 1 + copies) for _ in range(options.rounds - 1)]
    each = max(statistics.median(whole) - statistics.median(once), 1e-6) / (copies * PART)
    return 1 / each, statistics.median(once) - PART * each, copies * PART


def time_list(method: Method, bank: FeatureBank, part: EpisodeRows, copies: int) -> float:
    columns = (part.support, part.query, part.labels, part.classes)
    rows = EpisodeRows(*(np.concatenate([column] * copies) for column in columns))
    return seconds(lambda: score_episodes(method, bank, rows))


def every_method(bank: FeatureBank, options: argparse.Namespace, names: list[str]) -> None:
    """A row for each method."""
    videos = len(np.unique(draw(bank, options.shot, PART).support))
    print(f"\n| method | episodes/s, {options.shot}-shot | over episodes | beginning, s | peak rss so far, MB |")
    print("|---|---|---|---|---|")
    for name in names:
        found, begun, count = rate(build(name), bank, options)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"| `{name}` | {found:,.0f} | {count:,} | {begun:.2f} | {peak:,.0f} |", flush=True)
    print(
        f"\nA beginning: {videos} videos and more are read. Peak rss: of the whole process up to then, the bank and all"
    )
    print("rows above included; for a method's own give --only NAME --what rates.")


def plain_of(name: str, method: Method) -> dict[str, tuple[Plain, int]]:
    """Plain versions of a method, each with the episodes that it is given a round."""
    if isinstance(method, TRX):
        return {"a query and a class at a time": (lambda s, q: plain_methods.trx(s, q, method), 4)}
    if isinstance(method, OTAM):
        one, all_pairs = plain_methods.otam, plain_methods.otam_pairs
        return {
            "a query, a class and a cell at a time": (lambda s, q: one(s, q, method.lam), 4),
            "an episode and a cell at a time": (lambda s, q: all_pairs(s, q, method.lam), 40),
        }
    return {"an episode at a time, torch's SGD": (plain_methods.baseline, 4)}


def against_plain(bank: FeatureBank, options: argparse.Namespace, name: str, count: int) -> None:
    """A row for each plain version of a method: both sides on the same episodes, in turns."""
    method = build(name)
    rows = draw(bank, options.shot, count)
    with torch.no_grad():
        means = mean_cubes(bank, np.arange(len(bank)), method.readout).flatten(2)  # [n, c, t or 1]
    means = means.transpose(1, 2) if method.readout == "seq" else means.squeeze(2)  # [n, t, c] or [n, c]

    def slowly(plain: Plain, few: int) -> np.ndarray:
        with torch.no_grad():
            found = [plain(means[rows.support[i]], means[rows.query[i]]) for i in range(few)]
        return torch.stack(found).numpy()

    for what, (plain, few) in plain_of(name, method).items():
        times: list[list[float]] = [[], []]
        for _ in range(options.rounds + 1):  # the first round warms up
            times[0].append(seconds(lambda: score_episodes(method, bank, rows)))
            times[1].append(seconds(lambda plain=plain, few=few: slowly(plain, few)))
        if not method.draws:
            found = score_episodes(method, bank, rows)[:few]
            np.testing.assert_allclose(found, slowly(plain, few), rtol=2e-3, atol=2e-3)
        ours, base = (n / statistics.median(part[1:]) for n, part in zip((count, few), times, strict=True))
        print(f"| `{name}`, {what} | {base:.1f} | {ours:,.0f} ({count:,}) | {ours / base:.0f} x |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="That a list takes, roughly")
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--only", default=",".join(METHODS), help="Methods, by commas")
    parser.add_argument("--what", choices=["both", "rates", "ratios"], default="both")
    parser.add_argument("--store", type=Path, help="Made there, or used again  [default: made and removed]")
    options = parser.parse_args()
    names = options.only.split(",")
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(options.store or Path(folder) / "bench.zarr", VIDEOS, cube=CUBE)
        bank = FeatureBank(store, "test")
        bank.load()
        print(f"{len(bank)} videos, cubes {CUBE}, torch {torch.__version__}, {torch.get_num_threads()} threads")
        if options.what != "rates":
            print("\n| method and its plain version | plain, episodes/s | ours (of a list of) | ratio |")
            print("|---|---|---|---|")
            for name, count in (("trx", 300), ("otam", 2_000), ("baseline", 4_000)):
                if name in names:
                    against_plain(bank, options, name, count)
        if options.what != "ratios":
            every_method(bank, options, names)


if __name__ == "__main__":
    main()
