"""What one query costs a head, counted."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .episodes.episode import Episode
from .episodes.randomness import EpisodeRandom
from .methods.base import Method


def count_flops(call: Callable[[], Any]) -> int:
    """Floating-point operations of the products in a call, as torch counts them; nothing else is counted."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


@torch.no_grad()
def score_one(head: Method, episode: Episode) -> Tensor:
    """Logits [b, q, way] on the CPU."""
    return head.score(episode, EpisodeRandom()).cpu()  # [b, q, way]


def query_flops(head: Method, *, way: int, shot: int) -> int:
    """Those of one query and the supports of its episode, in evaluation."""
    device = next((p.device for p in head.parameters()), torch.device("cpu"))
    episode = random_episode(head.describe()["cube_shape"], way=way, shot=shot).to(device)
    return count_flops(lambda: score_one(head.eval(), episode))


def random_episode(cube_shape: tuple[int, ...], *, way: int, shot: int) -> Episode:
    """One episode with one query; what its cubes hold changes no cost."""
    rng = torch.Generator().manual_seed(0)
    support = torch.rand(1, way, shot, *cube_shape, generator=rng)  # [b=1, way, shot, c, t, h, w]
    query = torch.rand(1, 1, *cube_shape, generator=rng)  # [b=1, q=1, c, t, h, w]
    labels = torch.zeros(1, 1, dtype=torch.int64)  # [b=1, q=1]
    return Episode(support, query, labels, torch.full((1, way), -1))
