"""Which of the stored views of a video training draws."""

from collections.abc import Sequence

import numpy as np

from ...cache.store import StoreHeader
from ...cache.views import parse_view
from ..episodes.philox import below, key_of, random_words

_VIEW_STREAM = "mastaf views 1"


def training_views(header: StoreHeader) -> tuple[int, ...]:
    """Views that training may draw: all where a mirrored video keeps its class or --allow-flip said so, else those
    without a flip."""
    allowed = header.flip_keeps_class or bool(header.provenance.get("allow_flip"))
    return tuple(number for number, name in enumerate(header.spec.views) if allowed or not parse_view(name).flip)


def draw_views(seed: int, start: int, count: int, videos: int, views: Sequence[int]) -> np.ndarray:
    """The view of each video of episodes start .. start+count-1, int64 [count, videos], uniform over `views`.

    A pure function of (seed, episode number, place in the episode), so it does not depend on the batch size.
    """
    numbers = np.arange(start, start + count, dtype=np.uint64)
    words = random_words(key_of(_VIEW_STREAM, seed), numbers, videos)  # [count, videos]
    return np.asarray(views, dtype=np.int64)[below(words, len(views))]
