"""Scoring a list of episodes with heads, a memory-bounded chunk at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch

from .buffers import Buffers
from .cubes.bank import FeatureBank
from .cubes.chunk import Chunk, Products
from .cubes.reduced import half_where_asked
from .episodes.episode import EpisodeRows
from .episodes.randomness import EpisodeRandom
from .errors import FailedError
from .methods.base import Method

# float32 cubes of a chunk, by kind of device: of its classes' means and queries, and of all its videos, for heads that
# read them. On a CPU small enough to stay near the caches; on a GPU large enough that starting kernels does not bound.
_CHUNK_BYTES = {"cpu": 40 * 2**20, "cuda": 640 * 2**20}
_VIDEO_BYTES = {"cpu": 160 * 2**20, "cuda": 1280 * 2**20}
_CHUNK_EPISODES = 512
_KEPT_BYTES = 128 * 2**20


class KeptMaps:
    """Relation maps of a list that is scored again and again, while they are small."""

    def __init__(self) -> None:
        self._found: dict[int, Products] = {}
        self._room = _KEPT_BYTES

    def get(self, start: int) -> Products | None:
        """Those of the chunk that begins with this episode."""
        return self._found.get(start)

    def offer(self, start: int, products: Products | None) -> None:
        """Keep those of a chunk if there is room."""
        if products is not None and start not in self._found and products.nbytes <= self._room:
            self._found[start] = products
            self._room -= products.nbytes


def chunk_size(cube_shape: tuple[int, int, int, int], way: int, shot: int, q: int, device: torch.device) -> int:
    """Episodes a chunk, of cubes (c, t, h, w); bits depend on it, so it depends on the kind of device alone."""
    cube = 4 * int(np.prod(cube_shape))
    means, videos = _CHUNK_BYTES[device.type] // (way + q), _VIDEO_BYTES[device.type] // (way * shot + q)
    return max(1, min(_CHUNK_EPISODES, means // cube, videos // cube))


def chunks(
    rows: EpisodeRows, cube_shape: tuple[int, int, int, int], device: torch.device
) -> Iterator[tuple[int, EpisodeRows]]:
    """(number of its first episode, part) for each chunk of the episodes, to be worked on by this device."""
    way, shot = rows.support.shape[1:]
    size = chunk_size(cube_shape, way, shot, rows.query.shape[1], device)
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def score_episodes(
    method: Method,
    bank: FeatureBank,
    rows: EpisodeRows,
    *,
    seed: int = 0,
    train_class_ids: Mapping[str, int] | None = None,
    advance: Callable[[int], None] | None = None,
    kept: KeptMaps | None = None,
) -> np.ndarray:
    """Logits float32 [e, q, way] of one head; see `score_heads`."""
    keywords = {"seed": seed, "train_class_ids": train_class_ids, "advance": advance, "kept": kept}
    return score_heads([method], bank, rows, **keywords)[0]


def score_heads(
    methods: Sequence[Method],
    bank: FeatureBank,
    rows: EpisodeRows,
    *,
    seed: int = 0,
    train_class_ids: Mapping[str, int] | None = None,
    advance: Callable[[int], None] | None = None,
    kept: KeptMaps | None = None,
) -> list[np.ndarray]:
    """Logits float32 [e, q, way] of each method in evaluation mode, from view 0 alone, on shared episodes.

    seed: of the list, for heads that draw; advance: called with the episodes done after each chunk; kept: where
    relation maps are kept for the next time that this list is scored. Raises FailedError when a logit is not finite.
    """
    were_training = [method.training for method in methods]
    try:
        with torch.no_grad():  # not inference_mode: a head that fits per episode must be able to undo it
            found = _score_lists(methods, bank, rows, EpisodeRandom(seed), advance, keep=kept is not None)
            rest = [number for number in range(len(methods)) if number not in found]
            parts: dict[int, list[np.ndarray]] = {number: [] for number in rest}
            for start, chunk in _chunks(bank, rows, train_class_ids, kept) if rest else ():
                for number, part in parts.items():
                    part.append(_score(methods[number].eval(), chunk, EpisodeRandom(seed, start)))
                if kept is not None:
                    kept.offer(start, chunk.products)
                if advance is not None:
                    advance(len(chunk))
    finally:
        for method, was_training in zip(methods, were_training, strict=True):
            method.train(was_training)
    found |= {number: np.concatenate(part) for number, part in parts.items()}  # [e, q, way] each
    for logits in found.values():
        if not np.isfinite(logits).all():
            episode = int(np.flatnonzero(~np.isfinite(logits).all(axis=(1, 2)))[0])
            raise FailedError(f"the scores of episode {episode} are not finite; the weights are unusable, train again")
    return [found[number] for number in range(len(methods))]


def _score_lists(
    methods: Sequence[Method],
    bank: FeatureBank,
    rows: EpisodeRows,
    random: EpisodeRandom,
    advance: Callable[[int], None] | None,
    *,
    keep: bool,
) -> dict[int, np.ndarray]:
    """Logits float32 [e, q, way] of those methods that score a whole list at once, by their numbers.

    keep: heads that read relation maps leave some to be kept.
    """
    found = {}
    for number, method in enumerate(methods):
        if keep and method.reads_maps:
            continue
        # A list is done when the last head has done it.
        logits = method.eval().score_rows(bank, rows, random, advance if number == len(methods) - 1 else None)
        if logits is not None:
            found[number] = logits.float().cpu().numpy()
    return found


def _score(method: Method, chunk: Chunk, random: EpisodeRandom) -> np.ndarray:
    """Logits float32 [b, q, way]."""
    if method.reads_maps:
        return method.score_maps(chunk.related).float().cpu().numpy()
    with half_where_asked(chunk.bank):
        return method.score(chunk.episode, random).float().cpu().numpy()


def _chunks(
    bank: FeatureBank, rows: EpisodeRows, ids: Mapping[str, int] | None, kept: KeptMaps | None
) -> Iterator[tuple[int, Chunk]]:
    """(number of its first episode, chunk), each knowing the next, so that its cubes can be on their way."""
    buffers = Buffers()
    found = [
        (
            start,
            Chunk(bank, part, train_class_ids=ids, buffers=buffers, products=kept.get(start) if kept else None),
        )
        for start, part in chunks(rows, bank.store.spec.cube_shape, bank.device)
    ]
    for (_, chunk), (_, following) in pairwise(found):
        chunk.following = following
    for number in range(len(found)):
        yield found[number]
        found[number][1].close()
