"""The training episodes of a run, a chunk at a time; runs that draw the same ones share them."""

from collections.abc import Iterator

from ...cache.index import SPLITS
from ..buffers import Buffers
from ..cubes.bank import FeatureBank
from ..cubes.chunk import Chunk
from ..cubes.views import draw_views
from ..episodes.episode import EpisodeRows
from ..episodes.sampler import EpisodeSampler
from ..scoring import KeptMaps, chunks
from .run_config import RunConfig

TRAIN_SCORED = 200  # episodes of the train classes scored at each validation
_DRAWN_UPDATES = 32  # updates whose episodes are drawn at once


class TrainingStream:
    """Episodes of a bank as a run's settings draw them: episode i is a function of the seed and i.

    scored: episodes of the train classes, beyond the last one that is trained on, scored at each validation; kept:
    the relation maps of lists that are scored again and again, by the name of their split.
    """

    def __init__(self, bank: FeatureBank, sampler: EpisodeSampler, config: RunConfig) -> None:
        self.bank, self.sampler, self.config = bank, sampler, config
        self.scored = sampler.rows(config.train_episodes, TRAIN_SCORED)
        self.kept = {split: KeptMaps() for split in SPLITS}
        self._buffers = Buffers()
        self._drawn: tuple[int, EpisodeRows] = (0, sampler.rows(0, 0))

    def chunks(self, start: int, count: int) -> Iterator[Chunk]:
        """The episodes start .. start + count - 1 of one update, each chunk knowing the next, by which it is
        overwritten."""
        coming = self._chunks(start, count)
        for number, chunk in enumerate(coming):
            if number + 1 < len(coming):
                chunk.following = coming[number + 1]
            elif start + count < self.config.train_episodes:
                after = min(self.config.batch, self.config.train_episodes - start - count)
                chunk.following = self._chunks(start + count, after)[0]
            yield chunk

    def _chunks(self, start: int, count: int) -> list[Chunk]:
        rows, config = self._rows(start, count), self.config
        videos = config.way * config.shot + self.sampler.queries_per_episode
        views = draw_views(config.seed, start, count, videos, config.views)
        return [
            Chunk(
                self.bank,
                part,
                views=views[first : first + len(part)],
                train_class_ids=config.train_class_ids,
                buffers=self._buffers,
            )
            for first, part in chunks(rows, self.bank.store.spec.cube_shape, self.bank.device)
        ]

    def _rows(self, start: int, count: int) -> EpisodeRows:
        first, drawn = self._drawn
        if not first <= start <= start + count <= first + len(drawn):
            # Drawing many at once is cheaper, and changes nothing: episode i is a function of i.
            first, drawn = self._drawn = start, self.sampler.rows(start, self.config.batch * _DRAWN_UPDATES)
        return drawn[start - first : start - first + count]


def stream_key(config: RunConfig) -> tuple[object, ...]:
    """What two runs must have in common to be trained on one stream."""
    drawn = (config.way, config.shot, config.query_mode, config.queries, config.seed, config.views)
    selected = (config.select_on, config.val_videos, config.val_episodes, config.val_list)  # whose maps are kept
    return (*drawn, *selected, config.train_videos, config.batch, config.train_episodes, config.train_precision)
