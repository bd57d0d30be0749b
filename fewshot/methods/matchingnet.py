"""Matching networks: the label mass that a query's attention over the supports gives to each class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..episodes.episode import Episode
from .base import Defaults, Method
from .checks import require_choice, require_count, require_number
from .readout import vectors

VARIANTS = ("plain", "fce")


class MatchingNet(Method):
    """Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching Networks for One Shot Learning", NeurIPS 2016.

    With f = v_q and g = v_s, the means of cubes over time and space, attention over all supports is
    a = softmax_s(beta relu(cos(f, g_s))), P(n|q) the sum of a over the supports of class n, and the logit
    log(P + 1e-6); the loss is its negative at the true class. variant `fce` embeds in full context: a linear map
    c -> width, then the supports, class by class and shot by shot in the episode's order, pass through a
    bidirectional LSTM, G = S + forward + backward; a query takes way*shot steps of an LSTM cell with input [f, r],
    r = softmax(h G^T) G, and h <- h + f after each.

    State of `fce`: project.weight [width, c], context.* (LSTM), cell.*.

    Differs from the paper in: the backbone is frozen, so that without fce nothing is learnt; relu and beta = 100 are
    those of Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019; `fce` works in `width` dimensions, as
    117 M parameters on 2048 are too many. Its scores depend on the order of the supports, as in the paper.
    """

    readout = "vec"
    defaults = Defaults(optimiser="adam", lr=0.001)

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        variant: str = "plain",
        beta: float = 100.0,
        width: int = 512,
    ) -> None:
        super().__init__()
        require_choice("variant", variant, VARIANTS)
        require_number("beta", beta, above=True)
        require_count("width", width)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.variant, self.beta, self.width = variant, beta, width
        self.ordered = variant == "fce"
        if variant == "fce":
            self.project = nn.Linear(self.cube_shape[0], width, bias=False)
            self.context = nn.LSTM(width, width, batch_first=True, bidirectional=True)
            self.cell = nn.LSTMCell(2 * width, width)

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]: log-probabilities."""
        (way, shot) = episode.support.shape[1:3]
        support = vectors(episode.support).flatten(1, 2)  # [b, way*shot, c]
        query = vectors(episode.query)  # [b, q, c]
        if self.variant == "fce":
            support = self._in_context(self.project(support))  # [b, way*shot, width]
            query = self._attend(self.project(query), support)  # [b, q, width]
        alike = torch.relu(_unit(query) @ _unit(support).transpose(1, 2))  # [b, q, way*shot]
        attention = torch.softmax(self.beta * alike, dim=-1).unflatten(2, (way, shot))  # [b, q, way, shot]
        return torch.log(attention.sum(-1) + 1e-6)

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Negative log-probability of the true way, mean over queries; a scalar."""
        logits = self(episode)  # [b, q, way]
        true = logits.gather(2, episode.labels.unsqueeze(2)).mean()
        return -(1 - smoothing) * true - smoothing * logits.mean()

    def _in_context(self, support: Tensor) -> Tensor:
        """Supports [b, n, width] -> the same shape, each knowing the others."""
        both, _ = self.context(support)  # [b, n, 2*width]
        forward, backward = both.chunk(2, dim=-1)
        return support + forward + backward

    def _attend(self, query: Tensor, support: Tensor) -> Tensor:
        """Queries [b, q, width], read against supports [b, n, width] in n steps."""
        f = query.flatten(0, 1)  # [b*q, width]
        hidden, memory = f, torch.zeros_like(f)
        for _ in range(support.shape[1]):
            attention = torch.softmax(hidden.view_as(query) @ support.transpose(1, 2), dim=-1)  # [b, q, n]
            read = (attention @ support).flatten(0, 1)  # [b*q, width]
            hidden, memory = self.cell(torch.cat([f, read], dim=-1), (hidden, memory))
            hidden = hidden + f
        return hidden.view_as(query)


def _unit(values: Tensor) -> Tensor:
    return values / (torch.linalg.vector_norm(values, dim=-1, keepdim=True) + 1e-5)
