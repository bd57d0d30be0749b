"""Stored cubes as data sets of torch, for training loops of one's own behind a DataLoader."""

import os
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...cache.store import Store
from ..episodes.episode import EpisodeRows
from ..episodes.sampler import EpisodeSampler
from ..episodes.sources import RANDOM
from ..errors import FewShotError
from .bank import FeatureBank
from .views import draw_views


class _Cubes:
    """The usable videos of a split, read from the store's files as they are asked for.

    Nothing is held in memory, and no file stays open that processes must not share: workers of a DataLoader may be
    forked, or spawned (then each opens the store by its path). Of a store in object storage they must be spawned: its
    connections do not outlive a fork, and a forked worker would wait for ever.
    """

    def __init__(
        self, store: Store, split: str, views: Sequence[str], *, allow_partial: bool, dtype: torch.dtype
    ) -> None:
        if not dtype.is_floating_point:
            raise FewShotError(f"dtype ({dtype}) must be a floating-point type, such as torch.float32")
        bank = FeatureBank(store, split, allow_partial=allow_partial)
        if not len(bank):
            raise FewShotError(f"split ('{split}') has no usable video in {store.path}; name another split")
        self.store, self.split, self.dtype, self._process = store, split, dtype, os.getpid()
        self.rows, self.keys, self.classes, self.coverage = bank.rows, bank.keys, bank.classes, bank.coverage
        self.groups = tuple(store.index.groups[row] for row in bank.rows)
        self.class_names = bank.class_names
        self.views = tuple(_view_number(store, name) for name in views)
        if not self.views:
            raise FewShotError(f"views must name one at least, of {', '.join(store.spec.views)}")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())

    def read(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        """Cubes [m, c, t, h, w] of views[i] of video positions[i], both int64 [m]. FewShotError for NaN and Inf."""
        if self.store.is_remote and os.getpid() != self._process:
            raise FewShotError(
                f"workers that read {self.store.path} must be spawned, not forked; give DataLoader "
                "multiprocessing_context='spawn'"
            )
        cubes = torch.empty(len(positions), *self.store.spec.cube_shape, dtype=self.dtype)
        for view in np.unique(views):
            chosen = np.flatnonzero(views == view)
            found = torch.from_numpy(self.store.read(self.rows[positions[chosen]], int(view)))  # [k, c, t, h, w]
            # float16 values cannot overflow a float32 sum, so the sums are finite exactly when all of them are.
            finite = torch.isfinite(found.flatten(1).sum(1, dtype=torch.float32))  # [k]
            if not finite.all():
                key = self.keys[positions[chosen[int(finite.int().argmin())]]]
                raise FewShotError(f"the cube of '{key}' holds NaN or Inf; run mastaf-cache verify {self.store.path}")
            cubes[torch.from_numpy(chosen)] = found.to(self.dtype)
        return cubes


class CubeDataset(Dataset[tuple[Tensor, int]]):
    """The usable videos of a split: item -> (cube [c, t, h, w], label).

    Failed rows are left out and counted in `coverage`; missing ones (an unfinished extraction) are an error unless
    `allow_partial`. split: train, val or test; views: names of stored views: with several, all videos of the first one
    come first, then all of the second; dtype: of the cubes. label: 0 .. Z-1, the place of the class in `class_names`,
    which are sorted. keys: one a video.

    A DataLoader gives cubes [b, c, t, h, w] and labels int64 [b]. Its workers may be forked or spawned; of a store in
    object storage they must be spawned.
    """

    def __init__(
        self,
        store: Store,
        *,
        split: str,
        views: Sequence[str] = ("plain",),
        dtype: torch.dtype = torch.float32,
        allow_partial: bool = False,
    ) -> None:
        self._cubes = _Cubes(store, split, views, allow_partial=allow_partial, dtype=dtype)
        self.keys, self.coverage = self._cubes.keys, self._cubes.coverage
        self.class_names = tuple(self._cubes.class_names)
        number = {name: i for i, name in enumerate(self.class_names)}
        self.labels = np.array([number[name] for name in self._cubes.classes], dtype=np.int64)  # [n]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self._cubes.store.spec.cube_shape))
        return f"CubeDataset({self._cubes.split}: {len(self)} cubes {shape} of {len(self.class_names)} classes)"

    def __len__(self) -> int:
        return len(self.keys) * len(self._cubes.views)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Several at once, as a DataLoader asks for the items of a batch."""
        views, positions = np.divmod(_checked(items, len(self)), len(self.keys))
        cubes = self._cubes.read(positions, np.array(self._cubes.views)[views])  # [m, c, t, h, w]
        return list(zip(cubes, self.labels[positions].tolist(), strict=True))


class EpisodeItem(TypedDict):
    """One episode. support: [way, shot, c, t, h, w]; query: [q, c, t, h, w]; labels: int64 [q], the way of each query;
    class_ids: int64 [way], 0 .. Z-1 over the sorted train classes of the store, -1 for others."""

    support: Tensor
    query: Tensor
    labels: Tensor
    class_ids: Tensor


class EpisodeDataset(Dataset[EpisodeItem]):
    """Episodes of a split: item i is episode i of `mastaf.fewshot.episodes` for the same settings and `seed`.

    So with the defaults they are the ones that `mastaf-fewshot evaluate` scores, and on the split train, with the
    run's seed and `views`, those that `mastaf-fewshot train` draws. The settings are those of `EpisodeSampler`,
    the others those of `CubeDataset`. views: of several, each video of an episode shows one, drawn by `seed`.

    A DataLoader adds the axis b in front, so that `Episode(**batch)` is what every head takes; `shuffle` changes
    nothing but their order.
    """

    def __init__(
        self,
        store: Store,
        *,
        split: str = "test",
        way: int = 5,
        shot: int = 1,
        query_mode: str = "single",
        queries: int = 1,
        episodes: int = 10_000,
        seed: int = 0,
        episodes_from: str = RANDOM,
        views: Sequence[str] = ("plain",),
        dtype: torch.dtype = torch.float32,
        allow_partial: bool = False,
    ) -> None:
        if episodes < 1:
            raise FewShotError(f"episodes ({episodes}) must be at least 1")
        self._cubes = _Cubes(store, split, views, allow_partial=allow_partial, dtype=dtype)
        self.keys, self.coverage = self._cubes.keys, self._cubes.coverage
        self._episodes, self._seed = episodes, seed
        self._sampler = EpisodeSampler(
            keys=self.keys,
            classes=self._cubes.classes,
            split=split,
            way=way,
            shot=shot,
            query_mode=query_mode,
            queries=queries,
            seed=seed,
            episodes_from=episodes_from,
            groups=self._cubes.groups,
        )
        number = {name: i for i, name in enumerate(sorted(store.index.classes_of("train")))}
        self._ids = np.array([number.get(name, -1) for name in self._cubes.class_names], dtype=np.int64)  # [n_classes]

    def __repr__(self) -> str:
        sampler = self._sampler
        return f"EpisodeDataset({sampler.split}: {len(self)} episodes, {sampler.way}-way {sampler.shot}-shot)"

    def __len__(self) -> int:
        return self._episodes

    def rows(self, item: int) -> EpisodeRows:
        """Which videos episode `item` holds, as positions in `keys`: one episode, b = 1."""
        (number,) = _checked([item], len(self)).tolist()
        return self._sampler.rows(number, 1)

    def __getitem__(self, item: int) -> EpisodeItem:
        (number,) = _checked([item], len(self)).tolist()
        rows = self._sampler.rows(number, 1)
        positions = np.concatenate([rows.support.ravel(), rows.query.ravel()])  # [way*shot + q]
        views = draw_views(self._seed, number, 1, len(positions), self._cubes.views)[0]  # [way*shot + q]
        cubes = self._cubes.read(positions, views)  # [way*shot + q, c, t, h, w]
        _, way, shot = rows.support.shape
        return {
            "support": cubes[: way * shot].unflatten(0, (way, shot)),  # [way, shot, c, t, h, w]
            "query": cubes[way * shot :],
            "labels": torch.from_numpy(rows.labels[0]),
            "class_ids": torch.from_numpy(self._ids[rows.classes[0]]),
        }


def _checked(items: Sequence[int], count: int) -> np.ndarray:
    """Item numbers as int64 [m], those below 0 from the end. IndexError, by which a plain `for` ends."""
    found = np.asarray(items, np.int64).reshape(-1)
    if ((found < -count) | (found >= count)).any():
        raise IndexError(f"item must be from 0 to {count - 1}")
    return found % count


def _view_number(store: Store, name: str) -> int:
    if name not in store.spec.views:
        raise FewShotError(f"view ('{name}') must be one of the store's: {', '.join(store.spec.views)}")
    return store.spec.views.index(name)
