"""Where the episodes of fine-tuning come from: decoded clips, or stored cubes of a stage in the middle."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...cache.views import parse_view
from ...extract.backbones.base import Backbone
from ...fewshot.cubes.bank import FeatureBank
from .augment import centre
from .videos import SplitClips


class Source(Protocol):
    """The usable videos of a split, and how they become cubes.

    keys, classes: one entry a video; views: names of what training may draw, the first is `plain`; numbers: those of
    `load` for each of them.
    """

    split: str
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    views: tuple[int, ...]

    def load(self, positions: np.ndarray, views: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """What is trained on of the videos at these positions, int64 [m], and views, int64 [m]: [m, ...]. rng: draws
        frames, where there are more to draw from."""
        ...

    def cubes(self, inputs: Tensor) -> Tensor:
        """What `load` gave, [m, ...], on the network's device -> cubes [m, c, t, h, w]."""
        ...


class LiveSource:
    """Clips, and the whole network. view_names: `plain`, and `flip` if it is to be drawn."""

    def __init__(self, clips: SplitClips, base: Backbone, view_names: Sequence[str] = ("plain",)) -> None:
        self.split, self.keys, self.classes = clips.split, clips.keys, clips.classes
        self.views = tuple(range(len(view_names)))
        self._clips, self._base = clips, base
        self._flipped = np.array([parse_view(name).flip for name in view_names])

    def load(self, positions: np.ndarray, views: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Clips uint8 [m, frames, size, size, 3]: the centre crop, mirrored where the view says so."""
        size = self._base.size
        whole = self._clips.source.load(self._clips.rows[positions].tolist(), rng)
        clips = np.stack([centre(clip, size) for clip in whole])  # [m, frames, size, size, 3]
        flipped = self._flipped[views]
        clips[flipped] = clips[flipped, :, :, ::-1]
        return torch.from_numpy(clips)

    def cubes(self, inputs: Tensor) -> Tensor:
        """See `Source`."""
        return self._base.forward(inputs)


class StoredSource:
    """Stored cubes of the stage `layer`, and the stages after it."""

    def __init__(self, bank: FeatureBank, base: Backbone, layer: str) -> None:
        self.split, self.keys, self.classes, self.views = bank.split, bank.keys, bank.classes, bank.views
        self._bank, self._base, self._layer = bank, base, layer

    def load(self, positions: np.ndarray, views: np.ndarray, rng: np.random.Generator | None = None) -> Tensor:
        """Cubes float32 [m, c, t, h, w] of the stage; its views are all that there is to draw."""
        return self._bank.cubes(positions, views)

    def cubes(self, inputs: Tensor) -> Tensor:
        """See `Source`."""
        return self._base.tail(inputs, self._layer)
