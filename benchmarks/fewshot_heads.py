"""Episodes a second of MASTAF from relation maps, against one episode at a time with re-weighted cubes.

Both sides run in this process on the same cubes in float32, in turns, so that a busy machine slows both; medians over
the rounds. The plain side is the usual formulation: attention maps, then re-weighted cubes, then cosines. Cubes are
already gathered into episodes; reading them from a store is not measured here.

    python benchmarks/fewshot_heads.py [--rounds 5] [--batch 16] [--threads N]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from mastaf.fewshot.episode import Episode
from mastaf.fewshot.methods.mastaf import MASTAF
from torch import Tensor
from torch.nn import functional as F

CUBE, WAY, CLASSES = (2048, 1, 7, 7), 5, 31


def kernel_attention(method: MASTAF, maps: Tensor, normalise: bool, record: list | None) -> Tensor:
    """A [..., L own] of relation maps [..., L own, L other] of one episode."""
    mean = maps.mean(-2)  # [..., L]
    kernel = method.meta(mean.unsqueeze(0), normalise=normalise, record=record).squeeze(0)  # [..., L]
    return torch.softmax((maps * kernel.unsqueeze(-2)).mean(-1) / method.profile.tau, dim=-1)


def plain_cubes(method: MASTAF, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Re-weighted cubes of one episode: class self, query self, class cross, query cross, each [..., c, L]."""
    classes, queries = support.mean(1).flatten(2), query.flatten(2)  # [way, c, L], [q, c, L]
    units, unit_queries = F.normalize(classes, dim=1), F.normalize(queries, dim=1)
    record = [] if method.training else None
    of_class = kernel_attention(method, units.transpose(1, 2) @ units, True, record)  # [way, L]
    of_query = kernel_attention(method, unit_queries.transpose(1, 2) @ unit_queries, False, record)  # [q, L]
    cross = units.transpose(1, 2).unsqueeze(0) @ unit_queries.unsqueeze(1)  # [q, way, L, L]
    class_cross = kernel_attention(method, cross, True, record)  # [q, way, L]
    query_cross = kernel_attention(method, cross.transpose(-1, -2), True, record)  # [q, way, L]
    method.meta.update(record)
    return (
        classes * (1 + of_class).unsqueeze(1),
        queries * (1 + of_query).unsqueeze(1),
        classes * (1 + class_cross).unsqueeze(2),
        queries.unsqueeze(1) * (1 + query_cross).unsqueeze(2),
    )


def plain_logits(method: MASTAF, support: Tensor, query: Tensor) -> Tensor:
    """Pooled test scores [q, way] of one episode."""
    cubes = plain_cubes(method, support, query)
    own, asked, class_cross, query_cross = (F.normalize(cube.mean(-1), dim=-1) for cube in cubes)
    return method.profile.scale * ((query_cross * class_cross).sum(-1) + asked @ own.T)


def plain_loss(method: MASTAF, support: Tensor, query: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
    """Dense training loss with the global classifier, one episode."""
    own, asked, class_cross, query_cross = plain_cubes(method, support, query)
    own, class_cross = F.normalize(own.mean(-1), dim=-1), F.normalize(class_cross.mean(-1), dim=-1)
    crossed = torch.einsum("qnc,qncp->qnp", class_cross, F.normalize(query_cross, dim=2))
    alone = torch.einsum("nc,qcp->qnp", own, F.normalize(asked, dim=1))
    scores = method.profile.scale * (crossed + alone)  # [q, way, L]
    true = query_cross[torch.arange(len(labels)), labels]  # [q, c, L]
    logits = torch.einsum("zc,qcp->qzp", method.classifier.weight, true) + method.classifier.bias[:, None]
    size = scores.shape[-1]
    first = F.cross_entropy(scores, labels[:, None].expand(-1, size))
    return 0.5 * first + F.cross_entropy(logits, ids[labels][:, None].expand(-1, size))


def each(episode: Episode):
    return zip(episode.support, episode.query, episode.labels, episode.class_ids, strict=True)


def steps(method: MASTAF, episode: Episode, train: bool) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """The plain and the batched way to work through the same episodes; both return what can be compared."""

    def plain() -> Tensor:
        if not train:
            return torch.stack([plain_logits(method, support, query) for support, query, _, _ in each(episode)])
        total = torch.zeros(())
        for part in each(episode):
            loss = plain_loss(method, *part) / len(episode.support)
            loss.backward()
            total += loss.detach()
        return total

    def batched() -> Tensor:
        if not train:
            return method(episode)
        loss = method.loss(episode)
        loss.backward()
        return loss.detach()

    return plain, batched


def draw(b: int, shot: int) -> Episode:
    labels, ids = torch.randint(0, WAY, (b, 1)), torch.stack([torch.randperm(CLASSES)[:WAY] for _ in range(b)])
    return Episode(torch.rand(b, WAY, shot, *CUBE), torch.rand(b, 1, *CUBE), labels, ids)


def measure(train: bool, shot: int, rounds: int, batch: int) -> tuple[float, float]:
    """Median episodes a second, plain and batched."""
    method = MASTAF.build(cube_shape=CUBE, n_train_classes=CLASSES).train(train)
    episode = draw(batch, shot)
    ways = steps(method, episode, train)
    with torch.set_grad_enabled(train):
        seen = [way() for way in ways]  # warms up, and proves that both compute the same
        torch.testing.assert_close(seen[1], seen[0], rtol=2e-5, atol=2e-5)
        rates: list[list[float]] = [[], []]
        for _ in range(rounds):
            for way, kept in zip(ways, rates, strict=True):
                start = time.perf_counter()
                way()
                kept.append(batch / (time.perf_counter() - start))
    return statistics.median(rates[0]), statistics.median(rates[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(
        f"MASTAF (`code`), 5-way, one query, cubes {CUBE}, fp32, torch {torch.__version__}, {options.threads} threads"
    )
    print()
    print("| what | one at a time, episodes/s | relation maps, episodes/s | ratio |")
    print("|---|---|---|---|")
    for name, train, shot in (("evaluate 1-shot", False, 1), ("evaluate 5-shot", False, 5), ("train 1-shot", True, 1)):
        plain, batched = measure(train, shot, options.rounds, options.batch)
        print(f"| {name} | {plain:.0f} | {batched:.0f} | {batched / plain:.1f} x |", flush=True)


if __name__ == "__main__":
    main()
