"""Episodes a second of MASTAF in `mastaf.fewshot`, against one episode at a time with re-weighted cubes.

Both sides run in this process on the same cubes and the same episodes, in turns, so that a busy machine slows both;
each ratio is that of medians over the rounds. The plain side is `plain_mastaf.py`, with as many threads as are best for
it; ours has the cubes with 16 bits in a bank, as `evaluate` and `train` have them.

    python benchmarks/fewshot.py [--rounds 5] [--episodes 300] [--store bench.zarr]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fewshot_store import CUBE, HMDB51, make_store
from mastaf.cache.store import Store
from mastaf.fewshot.bank import FeatureBank
from mastaf.fewshot.buffers import Buffers
from mastaf.fewshot.chunk import Chunk
from mastaf.fewshot.episode import EpisodeRows
from mastaf.fewshot.methods.mastaf import MASTAF
from mastaf.fewshot.sampler import EpisodeSampler
from mastaf.fewshot.scoring import chunks, score_episodes
from plain_mastaf import PlainMASTAF

UPDATE = 32  # episodes an update
Way = Callable[[], np.ndarray]


def draw(bank: FeatureBank, shot: int, count: int) -> EpisodeRows:
    """5-way episodes with a single query."""
    sampler = EpisodeSampler(
        keys=bank.keys,
        classes=bank.classes,
        split=bank.split,
        seed=0,
        way=5,
        shot=shot,
        query_mode="single",
        queries=1,
    )
    return sampler.rows(0, count)


def plain_evaluate(plain: PlainMASTAF, rows: EpisodeRows) -> np.ndarray:
    with torch.no_grad():
        return torch.stack([plain.logits(rows, i) for i in range(len(rows))]).numpy()


def plain_train(plain: PlainMASTAF, rows: EpisodeRows) -> np.ndarray:
    optimiser, losses = torch.optim.SGD(plain.method.parameters(), lr=0.0), []
    for start in range(0, len(rows), UPDATE):
        optimiser.zero_grad(set_to_none=True)
        for i in range(start, min(start + UPDATE, len(rows))):
            loss = plain.loss(rows, i, torch.from_numpy(rows.classes[i]))
            (loss / UPDATE).backward()
            losses.append(float(loss.detach()))
        optimiser.step()
    return np.mean(losses, keepdims=True)


def train(method: MASTAF, bank: FeatureBank, rows: EpisodeRows) -> np.ndarray:
    optimiser, total, buffers = torch.optim.SGD(method.parameters(), lr=0.0), 0.0, Buffers()
    ids = {name: number for number, name in enumerate(bank.class_names)}
    for start in range(0, len(rows), UPDATE):
        optimiser.zero_grad(set_to_none=True)
        for _, part in chunks(rows[start : start + UPDATE], CUBE):
            chunk = Chunk(bank, part, train_class_ids=ids, buffers=buffers)
            loss = method.loss_maps(chunk.related) * (len(part) / UPDATE)
            loss.backward()
            total += float(loss.detach()) * UPDATE
        optimiser.step()
    return np.array([total / len(rows)])


def turns(ways: dict[str, tuple[Way, int]], rounds: int, count: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median episodes a second, and the result, of each way (with its threads), in turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name, (way, threads) in ways.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            found[name] = way()
            if number:  # the first round warms up
                rates[name].append(count / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}, found


def measure(store: Store, what: str, shot: int, rounds: int, count: int, threads: int) -> None:
    """One row of the table: plain, then ours in fp32 and bf16."""
    training = what == "train"
    exact, half = (
        FeatureBank(store, "train" if training else "test", dtype=d) for d in (torch.float16, torch.bfloat16)
    )
    once = []
    for bank in (exact, half):
        bank.gather(np.array([0]), np.array([0]), torch.empty(1, 49, 2048))  # reads the split
        start = time.perf_counter()
        assert bank.self_maps is not None
        once.append(time.perf_counter() - start)
    cubes = exact.cubes(np.arange(len(exact))).flatten(2).contiguous()  # [n, c, L]
    torch.manual_seed(0)
    method = MASTAF.build(cube_shape=CUBE, n_train_classes=31).train(training)
    rows = draw(exact, shot, count)
    plain = PlainMASTAF(method, cubes)
    if training:
        base: Way = lambda: plain_train(plain, rows)  # noqa: E731
        ours = [lambda bank=bank: train(method, bank, rows) for bank in (exact, half)]
    else:
        base = lambda: plain_evaluate(plain, rows)  # noqa: E731
        ours = [lambda bank=bank: score_episodes(method, bank, rows) for bank in (exact, half)]
    ways = {f"plain, {n} threads": (base, n) for n in sorted({1, threads})}
    rates, found = turns({**ways, "fp32": (ours[0], threads), "bf16": (ours[1], threads)}, rounds, count)
    best = max(ways, key=lambda name: rates[name])
    np.testing.assert_allclose(found["fp32"], found[best], rtol=2e-5, atol=2e-5)
    cells = [f"{what} {shot}-shot", f"{rates[best]:.0f} ({best})"]
    for name, seconds in zip(("fp32", "bf16"), once, strict=True):
        whole = 10_000 / (10_000 / rates[name] + seconds)
        cells += [f"{rates[name]:.0f}", f"{rates[name] / rates[best]:.1f} x", f"{whole:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=320)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--store", type=Path, help="Made there, or used again  [default: made and removed]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(options.store or Path(folder) / "bench.zarr", HMDB51)
        print(
            f"MASTAF (`code`), 5-way, one query, cubes {CUBE}, torch {torch.__version__}, {options.threads} threads\n"
        )
        print("| what | plain, episodes/s | fp32 | ratio | self maps counted | bf16 | ratio | self maps counted |")
        print("|---|---|---|---|---|---|---|---|")
        for what, shot in (("evaluate", 1), ("evaluate", 5), ("train", 1)):
            measure(store, what, shot, options.rounds, options.episodes, options.threads)


if __name__ == "__main__":
    main()
