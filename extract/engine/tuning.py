"""How many decoders work, and how many clips they may be ahead: chosen from what the first clips took.

    forward   |--batch--|--batch--|--batch--|        a clip every f seconds
    decoders  |-clip-|-clip-|-clip-|-clip-|          each a clip every d seconds, a slow one in w seconds

n decoders keep the forward passes fed when n / d >= 1 / f. More would only take cores from them. And while one decoder
is busy with a slow video, w / f clips go through the network, which the others must have put by: rows keep their order.
Neither number changes a bit of the cubes.
"""

import math
from dataclasses import dataclass

_HEADROOM = 1.25  # decoders beyond the bare need, because neither side takes the same time each time
_QUEUE_BYTES = 1 << 30  # of decoded clips; more would not be worth the memory
_SETTLED = 2  # batches until times are believed: the first one sets a network up


@dataclass(frozen=True)
class Ahead:
    """workers: decoders at work; in_flight: clips decoded or being decoded beyond those taken."""

    workers: int
    in_flight: int


class Tuner:
    """Chooses `Ahead` for a run, and again after each batch.

    workers, queue: numbers that the user gave, or None; most: decoders, at most; batch: clips a forward pass;
    clip_bytes: of one decoded clip.
    """

    def __init__(self, *, workers: int | None, queue: int | None, most: int, batch: int, clip_bytes: int) -> None:
        self._given, self._queue = workers, queue
        self.threads = workers or most
        self._batch = batch
        self._longest = max(_QUEUE_BYTES // clip_bytes, 1)
        self._batches, self._forward, self._clips = 0, 0.0, 0
        self._decode, self._decoded, self._slowest = 0.0, 0, 0.0
        # While the network is set up, which can take seconds, decoders go on as far as they ever may.
        self.ahead = self._with(self.threads, 4 * self._batch)

    @property
    def most_in_flight(self) -> int:
        """The longest queue that may be chosen."""
        return self._with(self.threads, 4 * self._batch).in_flight

    def decoded(self, seconds: float) -> None:
        """One video took `seconds` of its decoder."""
        self._decode += seconds
        self._decoded += 1
        self._slowest = max(self._slowest, seconds)

    def passed(self, clips: int, seconds: float) -> bool:
        """A forward pass of `clips` clips took `seconds`. True when `ahead` changed."""
        self._batches += 1
        if self._batches < _SETTLED:
            return False
        self._forward += seconds
        self._clips += clips
        forward = max(self._forward / self._clips, 1e-6)
        need = math.ceil(_HEADROOM * self._decode / max(self._decoded, 1) / forward)
        before, self.ahead = self.ahead, self._with(min(max(need, 1), self.threads), math.ceil(self._slowest / forward))
        return self.ahead != before

    def _with(self, workers: int, slow: int) -> Ahead:
        workers = self._given or workers
        # The next batch, a clip in each decoder, and what goes through while one of them is slow.
        wanted = self._queue or min(self._batch + 2 * workers + min(slow, 4 * self._batch), self._longest)
        return Ahead(workers, max(wanted, 1))
