"""The cubes of one split, gathered into episodes."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...cache.index import FAILED, MISSING
from ...cache.store import Store
from ..buffers import Buffers
from ..episodes.episode import Episode, EpisodeRows
from ..errors import FewShotError
from ..relation import self_maps
from .cube_ranges import RangedCubes
from .cube_sources import CubeSource, HeldCubes, MappedCubes
from .cube_stream import StreamedCubes
from .residence import Residence, choose_residence

_SELF_MAPS_SHARE, _SELF_MAPS_BYTES = 0.2, 64 * 2**20  # self maps are kept up to a share of the cubes, or so many bytes
_BLOCK = 64  # videos whose self maps are computed at once


class FeatureBank:
    """Usable videos of a split of a store.

    Failed rows are left out and counted in `coverage`; missing rows (an unfinished extraction) are an error unless
    `allow_partial`, then counted. views: numbers of the stored views that episodes may use. bank: where the cubes
    stay, see `residence`. dtype: float16 keeps the stored bits, bfloat16 rounds them and makes for fast products.
    keys, classes: one entry a usable video, in the store's order; rows: int64 [n], their rows in the store;
    class_names: sorted. Nothing is read before the first cube is asked for.
    """

    def __init__(
        self,
        store: Store,
        split: str,
        *,
        views: Sequence[int] = (0,),
        allow_partial: bool = False,
        bank: str | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float16,
    ) -> None:
        self.store, self.split, self.views = store, split, tuple(views)
        self.device, self.dtype = torch.device(device), dtype
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
        self._asked = bank
        self._checked = np.zeros((len(self.rows), len(store.spec.views)), dtype=bool)
        self._staging = Buffers()

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.store.spec.cube_shape))
        return f"FeatureBank({self.split}: {len(self)} videos of {len(self.class_names)} classes, cubes {shape})"

    @property
    def digest(self) -> str:
        """sha256 (hex) of the usable keys and their classes."""
        return videos_digest(self.split, self.keys, self.classes)

    @property
    def _nbytes(self) -> int:
        return 2 * len(self) * len(self.views) * int(np.prod(self.store.spec.cube_shape))

    @cached_property
    def residence(self) -> Residence:
        """Where the cubes stay. Raises FewShotError where they cannot stay as asked."""
        return choose_residence(
            self._asked,
            nbytes=self._nbytes,
            device=self.device,
            compressed=bool(self.store.header.compress),
            format=self.store.path.suffix,
            remote=self.store.is_remote,
            dtype=self.store.spec.dtype,
        )

    @cached_property
    def _source(self) -> CubeSource:
        kind = self.residence.kind
        if kind == "stream":
            return (RangedCubes if self.store.is_remote else StreamedCubes)(self.store, self.rows)
        if kind == "mmap":
            return MappedCubes(self.store, self.rows)
        device = self.device if kind == "gpu" else torch.device("cpu")
        held = HeldCubes(self.store, self.rows, self.views, dtype=self.dtype, device=device)
        if not held.finite.all():
            self._refuse(int(held.finite.argmin()))
        return held

    def load(self) -> None:
        """Read now what stays in memory: threads that share the bank would each do it."""
        _ = self._source

    @cached_property
    def self_maps(self) -> Tensor | None:
        """Relation maps of every usable video and view with itself, float32 [n, views, L, L], on the bank's device.

        None where they would be too large beside the cubes, or where the cubes are not in memory anyway.
        """
        c, *sizes = self.store.spec.cube_shape
        size = int(np.prod(sizes))
        wanted, most = 4 * len(self) * len(self.views) * size**2, max(_SELF_MAPS_SHARE * self._nbytes, _SELF_MAPS_BYTES)
        if self.residence.kind not in ("gpu", "ram") or wanted > most:
            return None
        maps = torch.empty(len(self), len(self.views), size, size, device=self.device)  # [n, views, L, L]
        buffers = Buffers()
        for start in range(0, len(self), _BLOCK):
            positions = np.arange(start, min(start + _BLOCK, len(self)))
            for slot, view in enumerate(self.views):
                out = buffers.take("cubes", (len(positions), size, c), self.product_dtype, self.device)
                cubes = self.gather(positions, np.full_like(positions, view), out)  # [m, L, c]
                maps[positions[0] : positions[-1] + 1, slot] = self_maps(cubes.transpose(1, 2))
        return maps

    def self_maps_of(self, positions: np.ndarray, views: np.ndarray) -> Tensor | None:
        """Those of view views[i] of video positions[i]: [m, L, L]."""
        maps = self.self_maps
        if maps is None:
            return None
        slots = np.searchsorted(self.views, views)  # views rise
        wanted = torch.from_numpy(positions * len(self.views) + slots).to(self.device)
        return maps.flatten(0, 1).index_select(0, wanted)

    def gather(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> Tensor:
        """Fill out [m, L, c] (any float type) with view views[i] of video positions[i]; both int64 [m].

        Raises FewShotError naming the first video whose cube holds NaN or Inf: of the split where it is in memory,
        else of those that were asked for.
        """
        source = self._source
        if isinstance(source, HeldCubes) and out.device == source.cubes.device:
            source.fill(positions, views, out)
            return out
        # To an accelerator the cubes travel with 16 bits and are widened there.
        return out.copy_(self._narrow(positions, views).to(self.device))

    def means(self, positions: np.ndarray, views: np.ndarray, out: Tensor) -> Tensor:
        """Fill out [m, L, c] with the mean cubes of positions and views, int64 [m, shot]; errors as `gather`."""
        source = self._source
        if isinstance(source, HeldCubes) and out.device == source.cubes.device:
            source.fill_means(positions, views, out)
            return out
        cubes = self._narrow(positions.ravel(), views.ravel()).to(self.device).unflatten(0, positions.shape)
        wide = cubes[:, 0].float()  # [m, L, c]
        for k in range(1, positions.shape[1]):
            wide += cubes[:, k]  # [m, L, c]
        return out.copy_(wide.div_(positions.shape[1]))

    def _narrow(self, positions: np.ndarray, views: np.ndarray) -> Tensor:
        """Cubes [m, L, c] as the source has them, until the next call."""
        c, *sizes = self.store.spec.cube_shape
        out = self._staging.take("narrow", (len(positions), int(np.prod(sizes)), c), self.dtype)
        self._source.fill(positions, views, out)
        self._check(positions, views, out)
        return out

    @property
    def product_dtype(self) -> torch.dtype:
        """The type in which relation maps are computed."""
        return torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float32

    def cubes(self, positions: np.ndarray, views: np.ndarray | None = None) -> Tensor:
        """Float32 cubes [m, c, t, h, w] of video positions; view 0 unless `views` says; errors as `gather`."""
        shape = self.store.spec.cube_shape
        views = np.zeros_like(positions) if views is None else views
        out = torch.empty(len(positions), int(np.prod(shape[1:])), shape[0], device=self.device)  # [m, L, c]
        return as_cubes(self.gather(positions, views, out), shape)

    def prefetch(self, rows: EpisodeRows, views: np.ndarray | None = None) -> None:
        """Say that the cubes of these episodes, and views as for `episode`, are what will be asked for next."""
        for _, positions, chosen in videos_of(rows, views):
            self._source.prefetch(positions, chosen)

    def _check(self, positions: np.ndarray, views: np.ndarray, cubes: Tensor) -> None:
        """Raise FewShotError unless cubes [m, L, c] that were never seen before are finite."""
        new = np.flatnonzero(~self._checked[positions, views])
        if not len(new):
            return
        finite = [bool(torch.isfinite(cubes[i].sum(dtype=torch.float32))) for i in new.tolist()]
        if not all(finite):
            self._refuse(int(positions[new[finite.index(False)]]))
        self._checked[positions[new], views[new]] = True

    def _refuse(self, position: int) -> None:
        key = self.keys[position]
        raise FewShotError(f"the cube of '{key}' holds NaN or Inf; run mastaf-cache verify {self.store.path}")

    def episode(
        self,
        rows: EpisodeRows,
        *,
        train_class_ids: Mapping[str, int] | None = None,
        views: np.ndarray | None = None,
        buffers: Buffers | None = None,
    ) -> Episode:
        """The float32 cubes, on the bank's device, of episodes whose rows are positions in `keys`.

        views: int64 [b, way*shot + q], supports first, numbers of stored views; view 0 where it is None.
        train_class_ids: name -> 0 .. Z-1; other classes get -1. With `buffers` the cubes lie in memory that the
        next call with the same buffers overwrites. In memory positions come first.
        """
        b, way, shot = rows.support.shape
        buffers, shape = buffers or Buffers(), self.store.spec.cube_shape
        flat_shape = (int(np.prod(shape[1:])), shape[0])  # L, c
        found = {}
        for name, positions, chosen in videos_of(rows, views):
            out = buffers.take(name, (len(positions), *flat_shape), torch.float32, self.device)
            found[name] = as_cubes(self.gather(positions, chosen, out), shape)  # [b * videos, c, t, h, w]
        labels, ids = self.labels(rows, train_class_ids)
        support = found["support"].unflatten(0, (b, way, shot))  # [b, way, shot, c, t, h, w]
        return Episode(support, found["query"].unflatten(0, (b, rows.query.shape[1])), labels, ids)

    def labels(self, rows: EpisodeRows, train_class_ids: Mapping[str, int] | None) -> tuple[Tensor, Tensor]:
        """Labels [b, q] and global class ids [b, way] of episodes, on the bank's device."""
        ids = train_class_ids or {}
        numbers = np.array([ids.get(name, -1) for name in self.class_names], dtype=np.int64)
        return torch.from_numpy(rows.labels).to(self.device), torch.from_numpy(numbers[rows.classes]).to(self.device)


def as_cubes(positions_first: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """[..., L, c] seen as [..., c, t, h, w], for the cube shape (c, t, h, w)."""
    return positions_first.transpose(-1, -2).unflatten(-1, shape[1:])


def videos_of(rows: EpisodeRows, views: np.ndarray | None) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, video positions and stored views, int64 [b * videos] each, of the supports and of the queries."""
    supports = rows.support[0].size if len(rows) else 0
    parts = [("support", rows.support, slice(0, supports)), ("query", rows.query, slice(supports, None))]
    return [
        (name, wanted.ravel(), np.zeros(wanted.size, np.int64) if views is None else views[:, part].ravel())
        for name, wanted, part in parts
    ]


def videos_digest(split: str, keys: Sequence[str], classes: Sequence[str]) -> str:
    """sha256 (hex) of the usable videos of a split."""
    text = json.dumps([split, list(keys), list(classes)], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _coverage(states: np.ndarray) -> dict[str, int]:
    failed, missing = int((states == FAILED).sum()), int((states == MISSING).sum())
    return {"videos": len(states) - failed - missing, "failed": failed, "missing": missing}
