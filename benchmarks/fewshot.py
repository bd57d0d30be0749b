"""Episodes a second of MASTAF in `mastaf.fewshot`, against one episode at a time with re-weighted cubes.

Both sides run in this process on the same cubes and the same episodes, in turns, so that a busy machine slows both;
each ratio is that of medians over the rounds. The plain side is `plain_mastaf.py`, with as many threads as are best for
it; ours has the cubes with 16 bits in a bank, as `evaluate` and `train` have them. `with self maps` counts what is made
once a video, for 10,000 episodes. Give GOMP_SPINCOUNT=3000, as the commands do for themselves.

    python benchmarks/fewshot.py [--rounds 5] [--episodes 320] [--only train] [--processor-time] [--store bench.zarr]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from fewshot_store import CUBE, HMDB51, make_store
from mastaf.cache.store import Store
from mastaf.fewshot.buffers import Buffers
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.cubes.chunk import Chunk
from mastaf.fewshot.episodes.episode import EpisodeRows
from mastaf.fewshot.episodes.sampler import EpisodeSampler
from mastaf.fewshot.methods.mastaf import MASTAF
from mastaf.fewshot.scoring import KeptMaps, chunks, score_episodes
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
    optimiser, total = torch.optim.SGD(method.parameters(), lr=0.0), 0.0
    coming = cut(bank, rows)
    for start in range(0, len(rows), UPDATE):
        optimiser.zero_grad(set_to_none=True)
        count = left = min(UPDATE, len(rows) - start)
        while left:
            chunk = next(coming)
            left -= len(chunk)
            loss = method.loss_maps(chunk.related) * (len(chunk) / count)
            loss.backward()
            total += float(loss.detach()) * count
        optimiser.step()
    return np.array([total / len(rows)])


def cut(bank: FeatureBank, rows: EpisodeRows) -> Iterator[Chunk]:
    """The chunks of one update after another."""
    ids, buffers = {name: number for number, name in enumerate(bank.class_names)}, Buffers()
    for start in range(0, len(rows), UPDATE):
        for _, part in chunks(rows[start : start + UPDATE], CUBE, bank.device):
            yield Chunk(bank, part, train_class_ids=ids, buffers=buffers)


def turns(
    ways: dict[str, tuple[Way, int, int]], rounds: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median episodes a second, and the result, of each (way, its threads, its episodes), in turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name, (way, threads, count) in ways.items():
            torch.set_num_threads(threads)
            start = clock()
            found[name] = way()
            if number:  # the first round warms up
                rates[name].append(count / (clock() - start))
    return {name: statistics.median(values) for name, values in rates.items()}, found


def open_bank(store: Store, split: str, dtype: torch.dtype) -> tuple[FeatureBank, float]:
    """A bank whose cubes are read, and the seconds that its videos' self maps took."""
    bank = FeatureBank(store, split, dtype=dtype)
    bank.cubes(np.array([0]))
    start = time.perf_counter()
    assert bank.self_maps is not None
    return bank, time.perf_counter() - start


def measure(store: Store, what: str, shot: int, how: str, options: argparse.Namespace) -> None:
    """One row of the table: plain, then ours in fp32 and bf16."""
    training, threads = what == "train", options.threads
    banks = [open_bank(store, "train" if training else "test", dtype) for dtype in (torch.float16, torch.bfloat16)]
    torch.manual_seed(0)
    method = MASTAF.build(cube_shape=CUBE, n_train_classes=31).train(training)
    assert isinstance(method, MASTAF)
    # A list is scored as a whole, so it has to be as long as a list is.
    few, many = options.episodes, 10_000 if how == "list" else options.episodes
    rows = draw(banks[0][0], shot, many)
    cubes = banks[0][0].cubes(np.arange(len(banks[0][0]))).flatten(2).contiguous()  # [n, c, L]
    plain = PlainMASTAF(method, cubes)
    ways: dict[str, tuple[Way, int, int]] = {}
    for n in sorted({1, threads}):
        base = plain_train if training else plain_evaluate
        ways[f"plain, {n} thread{'s' * (n > 1)}"] = (lambda base=base: base(plain, rows[:few])), n, few
    plains = list(ways)
    for (bank, _), name in zip(banks, ("fp32", "bf16"), strict=True):
        ways[name] = (lambda bank=bank: ours(method, bank, rows, how)), threads, many
    rates, found = turns(ways, options.rounds, time.process_time if options.processor_time else time.perf_counter)
    best = max(plains, key=lambda name: rates[name])
    np.testing.assert_allclose(found["fp32"][:few], found[best], rtol=2e-5, atol=2e-5)
    cells = [f"{what} {shot}-shot, {how}", f"{rates[best]:.0f} ({best.removeprefix('plain, ')})"]
    for (_, seconds), name in zip(banks, ("fp32", "bf16"), strict=True):
        once = 0.0 if how == "list" else seconds  # a list's own time has them in it
        whole = 10_000 / (10_000 / rates[name] + once)
        cells += [f"{rates[name]:.0f}", f"{rates[name] / rates[best]:.1f} x", f"{whole:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def ours(method: MASTAF, bank: FeatureBank, rows: EpisodeRows, how: str) -> np.ndarray:
    """Scores of a list at once, or of maps chunk by chunk; or the mean loss of training on maps."""
    if method.training:
        return train(method, bank, rows)
    return score_episodes(method, bank, rows, kept=None if how == "list" else KeptMaps())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=320)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", default="", help="Of the rows those that have this in their name")
    parser.add_argument("--processor-time", action="store_true", help="Count that of all threads, on a busy machine")
    parser.add_argument("--store", type=Path, help="Made there, or used again  [default: made and removed]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(options.store or Path(folder) / "bench.zarr", HMDB51)
        print(f"MASTAF (`code`), 5-way, one query, cubes {CUBE}, torch {torch.__version__}, {options.threads} threads")
        print("\n| what | plain, episodes/s | fp32 | ratio | with self maps | bf16 | ratio | with self maps |")
        print("|---|---|---|---|---|---|---|---|")
        for what, shot, how in (
            ("evaluate", 1, "list"),
            ("evaluate", 1, "maps"),
            ("evaluate", 5, "maps"),
            ("train", 1, "maps"),
        ):
            if options.only in f"{what} {shot}-shot, {how}":
                measure(store, what, shot, how, options)


if __name__ == "__main__":
    main()
