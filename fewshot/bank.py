"""The cubes of one split, gathered into episodes."""

import hashlib
import json
import resource
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..cache.index import FAILED, MISSING
from ..cache.store import Store, StoreHeader
from .copying import copy_cubes
from .episode import Episode, EpisodeRows
from .errors import FewShotError
from .philox import below, key_of, random_words

_VIEW_STREAM = "mastaf views 1"


class FeatureBank:
    """Usable videos of a split of a store.

    Cubes are memory-mapped where the store is not compressed, else held as float16. Failed rows are left out and
    counted in `coverage`; missing rows (an unfinished extraction) are an error unless `allow_partial`, then counted.
    views: numbers of the stored views that episodes may use. keys, classes: one entry a usable video, in the
    store's order; rows: int64 [n], their rows in the store; class_names: sorted.
    """

    def __init__(self, store: Store, split: str, *, views: Sequence[int] = (0,), allow_partial: bool = False) -> None:
        self.store, self.split, self.views = store, split, tuple(views)
        rows = store.rows_of(split)
        states = store.states()[rows]
        self.coverage = _coverage(states)
        if self.coverage["missing"] and not allow_partial:
            raise FewShotError(
                f"{self.coverage['missing']} of {len(rows)} {split} videos of {store.path} are not extracted yet; "
                "run the same mastaf-extract command again, or use what is there with --allow-partial"
            )
        self.rows = rows[(states != FAILED) & (states != MISSING)].astype(np.int64)
        self.keys = tuple(store.index.keys[row] for row in self.rows)
        self.classes = tuple(store.index.classes[row] for row in self.rows)
        self.class_names = sorted(set(self.classes))
        self._maps: dict[int, Tensor] = {}  # shard -> [rows, views, c, t, h, w]
        self._held: dict[int, Tensor] = {}  # view -> [n, c, t, h, w], of a compressed store
        self._checked = np.zeros((len(self.rows), len(store.spec.views)), dtype=bool)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.store.spec.cube_shape))
        return f"FeatureBank({self.split}: {len(self)} videos of {len(self.class_names)} classes, cubes {shape})"

    @property
    def digest(self) -> str:
        """sha256 (hex) of the usable keys and their classes."""
        text = json.dumps([self.split, self.keys, self.classes], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def gather(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> Tensor:
        """Fill out [m, c, t, h, w] (any float type) with view views[i] of video positions[i]; both int64 [m].

        Raises FewShotError naming the first video whose cube holds NaN or Inf.
        """
        copy_cubes(self._sources(positions, views), out)
        for i in np.flatnonzero(~self._checked[positions, views]):
            # float16 values cannot overflow a float32 sum, so the sum is finite exactly when all of them are.
            if not torch.isfinite(out[i].sum(dtype=torch.float32)):
                key = self.keys[positions[i]]
                raise FewShotError(f"the cube of '{key}' holds NaN or Inf; run mastaf-cache verify {self.store.path}")
            self._checked[positions[i], views[i]] = True
        return out

    def episode(
        self,
        rows: EpisodeRows,
        *,
        device: torch.device | str = "cpu",
        train_class_ids: Mapping[str, int] | None = None,
        views: np.ndarray | None = None,
        buffers: "Buffers | None" = None,
    ) -> Episode:
        """The cubes (float32) of episodes whose rows are positions in `keys`.

        views: int64 [b, way*shot + q], supports first, numbers of stored views; view 0 where it is None.
        train_class_ids: name -> 0 .. Z-1; other classes get -1. With `buffers` the cubes lie in memory that the
        next call with the same buffers overwrites.
        """
        b, way, shot = rows.support.shape
        q = rows.query.shape[1]
        flat = np.concatenate([rows.support.reshape(b, way * shot), rows.query], axis=1)  # [b, way*shot + q]
        views = np.zeros_like(flat) if views is None else views
        buffers = buffers or Buffers()
        # To an accelerator the cubes travel as float16 and are widened there.
        staging = torch.float32 if torch.device(device).type == "cpu" else torch.float16
        shape = self.store.spec.cube_shape
        parts = []
        for name, part in (("support", slice(0, way * shot)), ("query", slice(way * shot, way * shot + q))):
            wanted, chosen = flat[:, part].ravel(), views[:, part].ravel()  # [b * videos]
            cubes = self.gather(wanted, chosen, buffers.take(name, (len(wanted), *shape), staging))
            parts.append(cubes.to(device, torch.float32))
        ids = train_class_ids or {}
        numbers = np.array([ids.get(name, -1) for name in self.class_names], dtype=np.int64)
        return Episode(
            parts[0].view(b, way, shot, *shape),  # [b, way, shot, c, t, h, w]
            parts[1].view(b, q, *shape),  # [b, q, c, t, h, w]
            torch.from_numpy(rows.labels).to(device),
            torch.from_numpy(numbers[rows.classes]).to(device),  # [b, way]
        )

    def _sources(self, positions: np.ndarray, views: np.ndarray) -> list[Tensor]:
        """The stored cubes [c, t, h, w] of positions and views, int64 [m] each."""
        if self.store.header.compress:
            pairs = zip(positions.tolist(), views.tolist(), strict=True)
            return [self._view(view)[position] for position, view in pairs]
        shards, slots = np.divmod(self.rows[positions], self.store.header.shard_rows)
        places = zip(shards.tolist(), slots.tolist(), views.tolist(), strict=True)
        return [self._map(shard)[slot, view] for shard, slot, view in places]

    def _view(self, view: int) -> Tensor:
        """float16 [n, c, t, h, w]: one view of all usable videos, decompressed once and held."""
        if view not in self._held:
            self._held[view] = torch.from_numpy(self.store.read(self.rows, view))
        return self._held[view]

    def _map(self, shard: int) -> Tensor:
        """float16 [rows, views, c, t, h, w]: the memory map of a shard."""
        if shard not in self._maps:
            if len(self._maps) >= _most_maps():
                del self._maps[next(iter(self._maps))]
            with warnings.catch_warnings():
                # torch has no read-only tensors and warns of a read-only map; nothing here writes to it.
                warnings.filterwarnings("ignore", message=".*not writable.*")
                self._maps[shard] = torch.from_numpy(self.store.mapped(shard))
        return self._maps[shard]


class Buffers:
    """Memory that successive episodes re-use: fresh pages cost as much as filling them."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor of this shape, in the memory of the last one of this name if that is enough."""
        count = int(np.prod(shape))
        held = self._held.get(name)
        if held is None or held.numel() < count or held.dtype != dtype:
            held = self._held[name] = torch.empty(count, dtype=dtype)
        return held[:count].view(shape)


def training_views(header: StoreHeader) -> tuple[int, ...]:
    """Views that training may draw: all where a mirrored video keeps its class or --allow-flip said so, else view 0."""
    allowed = header.flip_keeps_class or bool(header.provenance.get("allow_flip"))
    return tuple(range(len(header.spec.views))) if allowed else (0,)


def draw_views(seed: int, start: int, count: int, videos: int, views: Sequence[int]) -> np.ndarray:
    """The view of each video of episodes start .. start+count-1, int64 [count, videos], uniform over `views`.

    A pure function of (seed, episode number, place in the episode), so it does not depend on the batch size.
    """
    numbers = np.arange(start, start + count, dtype=np.uint64)
    words = random_words(key_of(_VIEW_STREAM, seed), numbers, videos)  # [count, videos]
    return np.asarray(views, dtype=np.int64)[below(words, len(views))]


def _most_maps() -> int:
    # Each map holds a descriptor before Python 3.13; the store keeps up to half of them for itself.
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if soft == resource.RLIM_INFINITY else max(8, soft // 4)


def _coverage(states: np.ndarray) -> dict[str, int]:
    failed, missing = int((states == FAILED).sum()), int((states == MISSING).sum())
    return {"videos": len(states) - failed - missing, "failed": failed, "missing": missing}
