"""Scoring a list of episodes with a method, a memory-bounded chunk at a time."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch

from .bank import Buffers, FeatureBank
from .episode import EpisodeRows
from .errors import FewShotError
from .methods.base import Method

# float32 cubes of a chunk: small enough to stay near the caches and to leave room for a method's own tensors.
_CHUNK_BYTES = 128 * 2**20
_CHUNK_EPISODES = 512


def chunk_size(cube_shape: tuple[int, int, int, int], videos: int) -> int:
    """Episodes a chunk, for `videos` cubes (c, t, h, w) an episode; bits depend on it, so it depends on no machine."""
    return max(1, min(_CHUNK_EPISODES, _CHUNK_BYTES // (4 * int(np.prod(cube_shape)) * videos)))


def chunks(rows: EpisodeRows, cube_shape: tuple[int, int, int, int]) -> Iterator[tuple[int, EpisodeRows]]:
    """(number of its first episode, part) for each chunk of the episodes."""
    videos = rows.support[0].size + rows.query.shape[1] if len(rows) else 1
    size = chunk_size(cube_shape, videos)
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def score_episodes(
    method: Method,
    bank: FeatureBank,
    rows: EpisodeRows,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    train_class_ids: Mapping[str, int] | None = None,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Logits float32 [e, q, way] of the method in evaluation mode, from view 0 alone.

    seed: for heads that draw while scoring; advance: called with the episodes done after each chunk. Raises
    FewShotError when a logit is not finite.
    """
    was_training = method.training
    method.eval()
    buffers, parts = Buffers(), []
    try:
        with torch.no_grad():  # not inference_mode: a head that fits per episode must be able to undo it
            for start, part in chunks(rows, bank.store.spec.cube_shape):
                episode = bank.episode(part, device=device, train_class_ids=train_class_ids, buffers=buffers)
                rng = np.random.Generator(np.random.Philox(key=[seed, start]))
                parts.append(method.score(episode, rng).float().cpu().numpy())  # [chunk, q, way]
                if advance is not None:
                    advance(len(part))
    finally:
        method.train(was_training)
    logits = np.concatenate(parts)  # [e, q, way]
    if not np.isfinite(logits).all():
        episode = int(np.flatnonzero(~np.isfinite(logits).all(axis=(1, 2)))[0])
        raise FewShotError(f"the scores of episode {episode} are not finite; the weights are unusable, train again")
    return logits
