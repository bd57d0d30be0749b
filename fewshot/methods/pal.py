"""PAL: prototypes that attend to the supports and queries that attend to the prototypes' supports, both losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..episodes.episode import Episode
from .base import Defaults, Method, Needs
from .checks import require_choice, require_number
from .query_sets import require_even
from .readout import soft_cosine, vectors

CONTRASTS = ("sigmoid", "exp")


class PAL(Method):
    """Zhu, Toisoul, Perez-Rua, Zhang, Martinez, Xiang, "Few-shot Action Recognition with Prototype-centered Attentive
    Learning", BMVC 2021 (arXiv 2101.08085).

    With v = the mean of a cube over time and space, one single-head attention module MHA serves two steps:
    S' = S + MHA(S, S, S) over all supports, and v_q' = v_q + MHA(v_q, S', S'). The logit s is the soft cosine of v_q'
    with the mean of a class's S'. The loss is the cross-entropy of s, query by query, + the prototype-centred
    -mean_n log(sum_{q of n} f(s[q, n]) / (sum_q f(s[q, n]) + eps)): f is the logistic function with eps = 0.1 (contrast
    `sigmoid`), or exp(s / temperature) with eps = 0 (`exp`). So it needs queries of every class in training.

    State: attention_module.{in_proj_weight [3c, c], in_proj_bias, out_proj.*}.

    Differs from the paper in: the backbone is frozen (the authors first train it on the base classes). The details are
    those of a public re-implementation which reports about 2 points less than the paper; `exp` is recalled.
    """

    readout = "vec"
    needs = Needs(query_mode="per_class")
    defaults = Defaults(
        optimiser="sgd",
        lr=0.0001,
        momentum=0.9,
        weight_decay=0.0001,
        schedule="step",
        step_every=3_000,
        batch=1,
        episodes=7_000,
        query_mode="per_class",
        queries=5,
    )

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        contrast: str = "sigmoid",
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        require_choice("contrast", contrast, CONTRASTS)
        require_number("temperature", temperature, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.contrast, self.temperature = contrast, temperature
        # Its initial values are the published ones: Xavier-uniform over the stacked [3c, c], biases zero.
        self.attention_module = nn.MultiheadAttention(self.cube_shape[0], 1, batch_first=True)

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = vectors(episode.support), vectors(episode.query)  # [b, way, shot, c], [b, q, c]
        flat = support.flatten(1, 2)  # [b, way*shot, c]
        flat = flat + self._attend(flat, flat)
        query = query + self._attend(query, flat)
        return soft_cosine(query, flat.view_as(support).mean(2))

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """The query-centred and the prototype-centred loss, a scalar; smoothing: of the former's labels."""
        require_even(episode.labels, episode.way)  # a way without a query would be the logarithm of nothing
        logits = self(episode)  # [b, q, way]
        rows, labels = logits.flatten(0, 1), episode.labels.flatten()
        centred = nn.functional.cross_entropy(rows, labels, label_smoothing=smoothing)
        own = nn.functional.one_hot(episode.labels, episode.way).bool()  # [b, q, way]
        if self.contrast == "sigmoid":
            weights = torch.sigmoid(logits)
            share = (weights * own).sum(1) / (weights.sum(1) + 0.1)  # [b, way]
            return centred - torch.log(share).mean()
        scaled = logits / self.temperature
        ours = scaled.masked_fill(~own, float("-inf")).logsumexp(1)  # [b, way]
        return centred - (ours - scaled.logsumexp(1)).mean()

    def _attend(self, asking: Tensor, asked: Tensor) -> Tensor:
        """asking [b, n, c], asked [b, m, c] -> [b, n, c]."""
        return self.attention_module(asking, asked, asked, need_weights=False)[0]
