"""HyRSM: two sets of frames, compared by the mean distance of each frame to the nearest of the other set."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_choice, require_number
from .readout import sequences

VARIANTS = ("metric", "relation")


class HyRSM(Method):
    """Wang, Zhang, Qing, Tang, Zuo, Gao, Jin, Sang, "Hybrid Relation Guided Set Matching for Few-shot Action
    Recognition", CVPR 2022.

    A class is the mean over shots of its sequences of frames. The bidirectional mean Hausdorff distance of two
    sequences is mean_i min_j d(q_i, s_j) + mean_j min_i d(q_i, s_j), with d = 1 - cosine; the logit is minus it, times
    scale. variant `metric` has nothing to learn; `relation` first lets the frames of each video attend to each other,
    x + MHA(x, x, x) with one head.

    State of `relation`: within.{in_proj_weight [3c, c], in_proj_bias, out_proj.*}.

    Differs from the paper in: the backbone is frozen; the paper's relations between the videos of an episode are left
    out, so that queries do not see each other, as is its auxiliary classifier. Written from recall of the paper.
    """

    readout = "seq"
    defaults = Defaults(optimiser="adam", lr=0.0001)

    def __init__(
        self, *, cube_shape: Sequence[int], n_train_classes: int, variant: str = "metric", scale: float = 10.0
    ) -> None:
        super().__init__()
        require_choice("variant", variant, VARIANTS)
        require_number("scale", scale, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.variant, self.scale = variant, scale
        if variant == "relation":
            self.within = nn.MultiheadAttention(self.cube_shape[0], 1, batch_first=True)

    def note(self) -> str:
        """At t = 1 a set is a single frame."""
        return "cubes have t = 1, so HyRSM is the cosine to the mean of the shots" if self.cube_shape[1] == 1 else ""

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = self._read(episode.support).mean(2), self._read(episode.query)  # [b, way, t, c], [b, q, t, c]
        t = query.shape[2]
        unit = (F.normalize(part, dim=-1).flatten(1, 2) for part in (query, support))  # [b, q*t, c], [b, way*t, c]
        asked, known = unit
        far = 1 - asked @ known.transpose(1, 2)  # [b, q*t, way*t]
        far = far.unflatten(1, (-1, t)).unflatten(3, (-1, t))  # [b, q, t, way, t]
        distance = far.amin(4).mean(2) + far.amin(2).mean(3)  # [b, q, way]
        return -self.scale * distance

    def _read(self, cubes: Tensor) -> Tensor:
        """Cubes [..., c, t, h, w] -> frames [..., t, c]."""
        frames = sequences(cubes)
        if self.variant == "metric":
            return frames
        flat = frames.flatten(0, -3)  # [videos, t, c]
        moved = torch.add(flat, self.within(flat, flat, flat, need_weights=False)[0])
        return moved.view_as(frames)
