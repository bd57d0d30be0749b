"""A few episodes drawn from a bank, for any number of heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from ..buffers import Buffers
from ..episodes.episode import Episode, EpisodeRows
from ..related import RelatedEpisode
from ..relation import RelationMaps
from .bank import FeatureBank, videos_of


@dataclass(frozen=True, eq=False)
class Products:
    """What is dear in a chunk's relation maps: cross [b, q, way, L, L], class_self [b, way, L, L] if the bank has
    none of this kind."""

    cross: Tensor
    class_self: Tensor | None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.cross, self.class_self) if part is not None)


class Chunk:
    """Episodes as cubes and as relation maps, each made when the first head asks, for all that follow.

    rows: positions in the bank's `keys`; views, train_class_ids: see `FeatureBank.episode`. With `buffers` cubes lie
    in memory that the next chunk with the same buffers overwrites. products: of these very episodes, from earlier;
    then `related` has no cubes. following: the chunk that is needed next, if any; its cubes are asked for once those
    of this one are there.
    """

    def __init__(
        self,
        bank: FeatureBank,
        rows: EpisodeRows,
        *,
        views: np.ndarray | None = None,
        train_class_ids: Mapping[str, int] | None = None,
        buffers: Buffers | None = None,
        products: Products | None = None,
    ) -> None:
        self.bank, self.rows = bank, rows
        self.views, self._ids, self._buffers = views, train_class_ids, buffers or Buffers()
        self._products = products
        self.following: Chunk | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def episode(self) -> Episode:
        """The cubes, float32."""
        episode = self.bank.episode(self.rows, train_class_ids=self._ids, views=self.views, buffers=self._buffers)
        self._announce()
        return episode

    @cached_property
    def related(self) -> RelatedEpisode:
        """The relation maps, computed in the bank's `product_dtype`; self maps are those that the bank holds."""
        (b, way, shot), q, bank = self.rows.support.shape, self.rows.query.shape[1], self.bank
        (_, supports, of_support), (_, queries, of_query) = videos_of(self.rows, self.views)
        known = self._products
        class_cubes, query_cubes = self._cubes() if known is None else (None, None)
        class_self = bank.self_maps_of(supports, of_support) if shot == 1 else known and known.class_self
        query_self = bank.self_maps_of(queries, of_query)
        maps = RelationMaps(
            class_cubes,
            query_cubes,
            cross=known and known.cross,
            class_self=None if class_self is None else class_self.view(b, way, *class_self.shape[-2:]),
            query_self=None if query_self is None else query_self.unflatten(0, (b, q)),
        )
        labels, ids = bank.labels(self.rows, self._ids)
        return RelatedEpisode(maps, class_cubes, query_cubes, labels, ids, bank.store.spec.cube_shape)

    @property
    def products(self) -> Products | None:
        """What to keep of `related`; None where a part of it would still need the cubes."""
        if "related" not in self.__dict__ or self.bank.self_maps is None:
            return None
        maps = self.related.maps
        return Products(maps.cross, None if self.rows.support.shape[2] == 1 else maps.class_self)

    def close(self) -> None:
        """Forget what was made: the memory may be another chunk's now."""
        for name in ("episode", "related"):
            self.__dict__.pop(name, None)

    def _cubes(self) -> tuple[Tensor, Tensor]:
        """Mean cubes of the classes [b, way, c, L] and the queries [b, q, c, L], positions first in memory."""
        (b, way, shot), q = self.rows.support.shape, self.rows.query.shape[1]
        (_, supports, of_support), (_, queries, of_query) = videos_of(self.rows, self.views)
        classes = self._take("classes", b * way)
        if shot == 1:
            self.bank.gather(supports, of_support, classes)
        else:
            self.bank.means(supports.reshape(-1, shot), of_support.reshape(-1, shot), classes)
        asked = self.bank.gather(queries, of_query, self._take("queries", b * q))
        self._announce()
        return classes.unflatten(0, (b, way)).transpose(-1, -2), asked.unflatten(0, (b, q)).transpose(-1, -2)

    def _announce(self) -> None:
        if self.following is not None and self.following._products is None:
            self.following.prefetch()

    def prefetch(self) -> None:
        """Say that this chunk is needed next."""
        self.bank.prefetch(self.rows, self.views)

    def _take(self, name: str, count: int) -> Tensor:
        """Room for `count` cubes, [count, L, c]."""
        c, *sizes = self.bank.store.spec.cube_shape
        shape = (count, int(np.prod(sizes)), c)
        return self._buffers.take(name, shape, self.bank.product_dtype, self.bank.device)
