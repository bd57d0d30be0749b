"""MASTAF the usual way, to measure against: one episode at a time, re-weighted cubes and all.

Written from the formulas of the authors' reading (preset `code`) alone; float32, and no copy that the formulas do not
ask for. It reads its numbers from a `MASTAF`, so that both sides compute the same.
"""

import torch
from mastaf.fewshot.episodes.episode import EpisodeRows
from mastaf.fewshot.methods.mastaf import MASTAF
from torch import Tensor
from torch.nn import functional as F


class PlainMASTAF:
    """cubes: float32 [n, c, L], in memory; method: in evaluation or training mode."""

    def __init__(self, method: MASTAF, cubes: Tensor) -> None:
        self.method, self.cubes = method, cubes

    def logits(self, rows: EpisodeRows, number: int) -> Tensor:
        """Pooled test scores [q, way] of one episode."""
        re_weighted = self._re_weighted(*self._gather(rows, number))
        own, asked, class_cross, query_cross = (F.normalize(cube.mean(-1), dim=-1) for cube in re_weighted)
        return self.method.profile.scale * ((query_cross * class_cross).sum(-1) + asked @ own.T)

    def loss(self, rows: EpisodeRows, number: int, ids: Tensor) -> Tensor:
        """Dense training loss with the global classifier; ids: int64 [way]."""
        own, asked, class_cross, query_cross = self._re_weighted(*self._gather(rows, number))
        labels = torch.from_numpy(rows.labels[number])  # [q]
        own, class_cross = F.normalize(own.mean(-1), dim=-1), F.normalize(class_cross.mean(-1), dim=-1)
        true = query_cross[torch.arange(len(labels)), labels]  # [q, c, L]
        crossed = class_cross.unsqueeze(-2) @ F.normalize(query_cross, dim=2)  # [q, way, 1, L]
        alone = own @ F.normalize(asked, dim=1)  # [q, way, L]
        scores = self.method.profile.scale * (crossed.squeeze(2) + alone)  # [q, way, L]
        classifier, size = self.method.classifier, scores.shape[-1]
        assert classifier is not None
        logits = classifier.weight @ true + classifier.bias[:, None]  # [q, Z, L]
        first = F.cross_entropy(scores, labels[:, None].expand(-1, size))
        second = F.cross_entropy(logits, ids[labels][:, None].expand(-1, size))
        return self.method.profile.loss_scale * (first + self.method.profile.global_weight * second)

    def _gather(self, rows: EpisodeRows, number: int) -> tuple[Tensor, Tensor]:
        """Mean cubes of the classes [way, c, L] and queries [q, c, L] of one episode."""
        support, query = torch.from_numpy(rows.support[number]), torch.from_numpy(rows.query[number])
        classes = self.cubes[support[:, 0]] if support.shape[1] == 1 else self.cubes[support].mean(1)
        return classes, self.cubes[query]

    def _re_weighted(self, classes: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Class self [way, c, L], query self [q, c, L], class cross and query cross [q, way, c, L]."""
        record = [] if self.method.training else None
        units, unit_queries = F.normalize(classes, dim=1), F.normalize(queries, dim=1)
        of_class = self._attend(units.transpose(1, 2) @ units, True, record)  # [way, L]
        of_query = self._attend(unit_queries.transpose(1, 2) @ unit_queries, False, record)  # [q, L]
        cross = units.transpose(1, 2).unsqueeze(0) @ unit_queries.unsqueeze(1)  # [q, way, L, L]
        class_cross = self._attend(cross, True, record)  # [q, way, L]
        query_cross = self._attend(cross.transpose(-1, -2), True, record)  # [q, way, L]
        assert self.method.meta is not None
        self.method.meta.update(record)
        return (
            classes * (1 + of_class).unsqueeze(1),
            queries * (1 + of_query).unsqueeze(1),
            classes * (1 + class_cross).unsqueeze(2),
            queries.unsqueeze(1) * (1 + query_cross).unsqueeze(2),
        )

    def _attend(self, maps: Tensor, normalise: bool, record: list | None) -> Tensor:
        """A [..., L own] of relation maps [..., L own, L other] of one episode."""
        assert self.method.meta is not None
        mean = maps.mean(-2)  # [..., L]
        kernel = self.method.meta(mean.unsqueeze(0), normalise=normalise, record=record).squeeze(0)  # [..., L]
        fused = (maps @ kernel.unsqueeze(-1)).squeeze(-1) / kernel.shape[-1]  # [..., L]
        return torch.softmax(fused / self.method.profile.tau, dim=-1)
