"""CMN: compound memory networks, with an embedding by saliencies and a memory of slots."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_choice, require_number
from .compound import SaliencyEmbedding
from .hinge import hinge_loss
from .readout import squared_distances

VARIANTS = ("lite", "memory")


class CMN(Method):
    """Zhu, Yang, "Compound Memory Networks for Few-shot Video Classification", ECCV 2018.

    A video is a few saliency rows and a key that is linear in them (`compound`). variant `lite`: no memory; a class is
    the mean of its shots' keys, the logit minus the squared distance. variant `memory`: slots hold rows, a key
    nrm(W rows + b) and a class. The supports are written in turn, first shots first: where the nearest slot is of the
    same class, the rows are added to it and normalised; otherwise they take a slot of their own. The logit of a class
    is the largest inner product of the query's key with its slots', and the loss max(0, margin - own + best other).
    Each episode begins with an empty memory that has a slot for every support, so that none is ever replaced.

    State: embedding.{saliencies [m, c], key.weight [key_size, m*c], key.bias}. Defaults: `lite` 8 saliencies and keys
    of size c that begin as the sum of the rows, learning rate 1e-5; `memory` 5 and 512, 1e-4.

    Differs from the paper in: the backbone is frozen; its memory of 512 slots with labels of training classes lives
    through training and is not learnt through, which is recalled, not read, and not built; saliencies begin as random
    numbers, since equal ones never part; hyperparameters of `memory` are recalled, `lite` follows the public code of a
    later benchmark (Zhu et al., "A Closer Look at Few-Shot Video Classification", 2021), which trains the backbone too.
    """

    defaults = Defaults(optimiser="adam", lr=0.0001)

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        variant: str = "lite",
        saliencies: int | None = None,
        key_size: int | None = None,
        sequence: str = "auto",
        margin: float = 0.5,
    ) -> None:
        super().__init__()
        require_choice("variant", variant, VARIANTS)
        require_number("margin", margin)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        lite = variant == "lite"
        if lite:
            self.defaults = Defaults(optimiser="adam", lr=0.00001)
        self.variant, self.sequence, self.margin = variant, sequence, margin
        self.saliencies = saliencies if saliencies is not None else (8 if lite else 5)
        self.key_size = key_size if key_size is not None else (self.cube_shape[0] if lite else 512)
        self.embedding = SaliencyEmbedding(self.cube_shape, self.saliencies, self.key_size, sequence, identity=lite)
        self.readout = "seq" if self.embedding.by_frame else "cube"
        self.ordered = not lite

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = self.embedding.rows(episode.support), self.embedding.rows(episode.query)
        keys = self.embedding.keys(query)  # [b, q, key_size]
        if self.variant == "lite":
            return -squared_distances(keys, self.embedding.keys(support).mean(2))
        stored, classes, used = self._write(support)
        alike = F.normalize(keys, dim=-1) @ stored.transpose(1, 2)  # [b, q, slots]
        ways = torch.arange(episode.way, device=alike.device).view(1, 1, -1)  # [1, 1, way]
        member = (classes.unsqueeze(2) == ways) & used.unsqueeze(2)  # [b, slots, way]
        return alike.unsqueeze(3).masked_fill(~member.unsqueeze(1), float("-inf")).amax(2)

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """`lite`: cross-entropy; `memory`: the hinge loss."""
        if self.variant == "lite":
            return super().loss(episode, smoothing=smoothing)
        return hinge_loss(self(episode), episode.labels, margin=self.margin, smoothing=smoothing)

    def _write(self, support: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows [b, way, shot, m, c] of the supports -> the memory's keys [b, slots, key_size], ways and use [b, slots].

        The i-th support takes slot i, unless it is added to another.
        """
        b, way, shot = support.shape[:3]
        written = support.transpose(1, 2).flatten(1, 2)  # [b, n, m, c], first shots first
        n, device = way * shot, support.device
        slot = torch.arange(n, device=device)  # [n]
        classes = (slot % way).expand(b, n)  # [b, n]
        rows, keys = written, self._keys(written)  # [b, n, m, c], [b, n, key_size]
        asking, used = keys, torch.zeros(b, n, dtype=torch.bool, device=device)
        for i in range(n):
            alike = (keys * asking[:, i : i + 1]).sum(-1)  # [b, n]
            best = alike.masked_fill(~used, float("-inf")).argmax(1, keepdim=True)  # [b, 1]
            same = used.gather(1, best) & (classes.gather(1, best) == i % way)  # [b, 1]
            here = slot == torch.where(same, best, i)  # [b, n]
            used = used | here
            if not bool(same.any()):
                continue  # all take the slot that already holds their rows
            there = rows[torch.arange(b, device=device), best.squeeze(1)]  # [b, m, c]
            added = F.normalize(there + written[:, i], dim=-1)  # [b, m, c]
            changed = (here & same).unsqueeze(2)  # [b, n, 1]
            rows = torch.where(changed.unsqueeze(3), added.unsqueeze(1), rows)
            keys = torch.where(changed, self._keys(added).unsqueeze(1), keys)
        return keys, classes, used

    def _keys(self, rows: Tensor) -> Tensor:
        return F.normalize(self.embedding.keys(rows), dim=-1)
