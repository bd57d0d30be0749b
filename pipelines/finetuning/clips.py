"""Clips for training: decoded once, kept in memory as far as they fit."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from ...cache.console import Progress
from ...extract.datasets.links import Links
from ...extract.decoding.decode import decode_clip
from ...extract.decoding.pixels import PixelRule
from ...extract.engine.workers import default_workers
from ...extract.errors import VideoError


class Clips(Protocol):
    """Decoded clips by row."""

    def load(self, rows: Sequence[int], rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 [len(rows), frames, side, side, 3]; with rng other frames of each clip, where there are more."""
        ...

    def close(self) -> None:
        """Let go what is held."""
        ...


class ClipSource:
    """Decoded clips by row, uint8 [frames, side, side, 3] each.

    links: where links of videos may lead, see `decode_clip`. The first `memory_bytes` of the clips stay in memory; the
    others are decoded again whenever they are asked for.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        frames: int,
        rule: PixelRule,
        links: Links | None = None,
        memory_bytes: int = 4 << 30,
        workers: int | None = None,
    ) -> None:
        self._paths = list(paths)
        self._frames, self._rule, self._links = frames, rule, links
        self._room = memory_bytes // (frames * rule.size * rule.size * 3)
        self._kept: dict[int, np.ndarray] = {}
        self._pool = ThreadPoolExecutor(max_workers=workers or default_workers())

    def decode_all(self) -> dict[int, str]:
        """Decode every clip once and keep what fits. Returns the reason for each row that cannot be used."""
        failed: dict[int, str] = {}
        with Progress(len(self._paths), "decoding", "clips") as progress:
            for row, found in enumerate(self._pool.map(self._try, range(len(self._paths)))):
                if isinstance(found, str):
                    failed[row] = found
                progress.advance(note=f"{len(failed)} failed" if failed else "")
        return failed

    def load(self, rows: Sequence[int], rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 [len(rows), frames, side, side, 3]; there are no other frames for rng to draw. Raises VideoError for a
        row that `decode_all` named."""
        return np.stack(list(self._pool.map(self._clip, rows)))

    def close(self) -> None:
        """Let the threads go."""
        self._pool.shutdown(cancel_futures=True)

    def _try(self, row: int) -> str | None:
        try:
            self._clip(row)
        except VideoError as error:
            return str(error)
        return None

    def _clip(self, row: int) -> np.ndarray:
        if row not in self._kept:
            pixels = decode_clip(self._paths[row], frames=self._frames, rule=self._rule, links=self._links).pixels
            if row >= self._room:
                return pixels
            self._kept[row] = pixels
        return self._kept[row]
