"""The random numbers of heads that draw while they score."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class EpisodeRandom:
    """Generators of the episodes of a batch, each a function of the list's seed and of the episode's number alone.

    So a score is the same in any batch, chunk or order, alone or beside others. seed: of the list; first: number of
    the batch's first episode in it.
    """

    seed: int = 0
    first: int = 0

    def of(self, place: int) -> np.random.Generator:
        """A fresh generator of the episode at this place of the batch."""
        return np.random.Generator(np.random.Philox(key=[self.seed, self.first + place]))

    def after(self, episodes: int) -> "EpisodeRandom":
        """That of a batch which begins so many episodes later."""
        return EpisodeRandom(self.seed, self.first + episodes)
