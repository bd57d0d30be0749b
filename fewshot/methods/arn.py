"""ARN: second-order descriptors of attended cubes, compared by a small convolutional network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cubes.bank import FeatureBank
from ..cubes.reduced import half_where_asked, in_blocks, used_videos
from ..episodes.episode import Episode, EpisodeRows
from ..episodes.randomness import EpisodeRandom
from ..errors import FewShotError
from .base import Defaults, Method
from .checks import require_count, require_number
from .conv_norm import ConvNorm
from .readout import widened

# Bytes of the first maps of the pairs that are compared at once.
_PAIR_BYTES = 64 * 2**20


class ARN(Method):
    """Zhang, Zhang, Qi, Li, Torr, Koniusz, "Few-shot Action Recognition with Permutation-invariant Attention", ECCV
    2020.

    A cube is projected to `channels` (1x1x1 convolution); a detector (two 3x3x3 convolutions and a 1x1x1, maximum over
    time, logistic) gives attention a over space, X <- X (1 + a). The descriptor of a video is
    psi(S / trace S), S = X X^T / positions, psi(s) = 2 logistic(sigma s) - 1; that of a class is the mean over its
    shots. A comparator (four 3x3 convolutions, each halving, the last three residual, then two linear layers) turns the
    pair [class, query] into a relation in (0, 1): the logit. The loss is its squared distance to the one-hot label.

    It learns nothing in its first updates: until it tells pairs apart, the share of a query's own class is the best
    answer to all. What matters is their number, so an update sees one episode.

    State: project, detect.*, locate, compare.*, hidden, relate.

    Differs from the paper in: the backbone is frozen and the encoder is one projection; the detector's two poolings
    over time are one maximum, so that any t will do; running statistics move slowly; no self-supervision, which the
    authors' published settings leave out too; that the loss is squared, and one episode an update, are recalled.
    """

    defaults = Defaults(
        optimiser="adam",
        lr=0.001,
        schedule="step",
        step_every=50_000,
        step_factor=0.5,
        batch=1,
        episodes=100_000,
        query_mode="per_class",
        queries=3,
    )

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        channels: int = 64,
        width: int = 64,
        sigma: float = 100.0,
    ) -> None:
        super().__init__()
        require_count("channels", channels, least=16)
        require_count("width", width)
        require_number("sigma", sigma, above=True)
        if channels % 16:
            raise FewShotError(f"channels ({channels}) must be a multiple of 16, to be halved four times")
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.channels, self.width, self.sigma = channels, width, sigma
        self.project = ConvNorm(self.cube_shape[0], channels, kernel=1, axes=3)
        self.detect = nn.Sequential(ConvNorm(channels, 16, kernel=3, axes=3), ConvNorm(16, 16, kernel=3, axes=3))
        self.locate = nn.Conv3d(16, 1, 1)
        nn.init.normal_(self.locate.weight, std=2**0.5)
        nn.init.zeros_(self.locate.bias)  # pyright: ignore[reportArgumentType]
        self.compare = nn.ModuleList(ConvNorm(2 if i == 0 else width, width, kernel=3, axes=2) for i in range(4))
        self.hidden, self.relate = nn.Linear(width * (channels // 16) ** 2, 8), nn.Linear(8, 1)
        for layer in (self.hidden, self.relate):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.ones_(layer.bias)

    def note(self) -> str:
        """At t = 1 only space is left."""
        return "cubes have t = 1, so ARN attends to space alone" if self.cube_shape[1] == 1 else ""

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]: relations in (0, 1)."""
        (way, shot), videos = (
            episode.support.shape[1:3],
            torch.cat([episode.support.flatten(1, 2), episode.query], dim=1),
        )
        found = self.describe_cubes(widened(videos))  # [b, way*shot + q, channels, channels]
        return self._compare(found[:, : way * shot].unflatten(1, (way, shot)), found[:, way * shot :])

    def score_rows(
        self,
        bank: FeatureBank,
        rows: EpisodeRows,
        random: EpisodeRandom,
        advance: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Logits [e, q, way]: each video is described once, however many episodes it is in."""
        with half_where_asked(bank):
            return self._score_list(bank, rows, advance)

    def _score_list(self, bank: FeatureBank, rows: EpisodeRows, advance: Callable[[int], None] | None) -> Tensor:
        videos, (support, query) = used_videos(rows)
        blocks = in_blocks(videos, bank.store.spec.cube_shape)
        found = torch.cat([self.describe_cubes(bank.cubes(block).unsqueeze(0))[0] for block in blocks])  # [n, ch, ch]
        each = max(1, _PAIR_BYTES // (4 * self.width * self.channels**2 * query.shape[1] * support.shape[1]))
        logits = []
        for start in range(0, len(rows), each):
            part = slice(start, start + each)
            logits.append(
                self._compare(*(found[torch.from_numpy(of[part]).to(found.device)] for of in (support, query)))
            )
            if advance is not None:
                advance(len(support[part]))
        return torch.cat(logits)

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Mean squared distance of the relations to the (smoothed) one-hot labels; a scalar."""
        relations, way = self(episode), episode.way  # [b, q, way]
        target = F.one_hot(episode.labels, way) * (1 - smoothing) + smoothing / way  # [b, q, way]
        return F.mse_loss(relations, target.to(relations.dtype))

    def attention(self, episode: Episode) -> dict[str, Tensor]:
        """query [b, q, t, h, w]: the detector's, the same at each time."""
        was_training = self.training
        projected = self.eval().project(widened(episode.query))  # [b, q, channels, t, h, w]
        attended = self._attend(projected).squeeze(2)  # [b, q, 1, h, w]
        self.train(was_training)
        return {"query": attended.expand(*episode.query.shape[:2], *self.cube_shape[1:])}

    def describe_cubes(self, cubes: Tensor) -> Tensor:
        """Cubes [b, m, c, t, h, w] -> descriptors [b, m, channels, channels]."""
        x = self.project(cubes)  # [b, m, channels, t, h, w]
        x = (x * (1 + self._attend(x))).flatten(3)  # [b, m, channels, L]
        second = x @ x.transpose(2, 3) / x.shape[-1]
        trace = second.diagonal(dim1=2, dim2=3).sum(-1).clamp_min(1e-12)  # [b, m]
        return torch.tanh(self.sigma / 2 * second / trace[..., None, None])  # 2 logistic(sigma s) - 1

    def _attend(self, x: Tensor) -> Tensor:
        """x [b, m, channels, t, h, w] -> attention [b, m, 1, 1, h, w]."""
        found = self.locate(self.detect(x).flatten(0, 1)).amax(2, keepdim=True)  # [b*m, 1, 1, h, w]
        return torch.sigmoid(found).unflatten(0, x.shape[:2])

    def _compare(self, support: Tensor, query: Tensor) -> Tensor:
        """Descriptors support [b, way, shot, ch, ch], query [b, q, ch, ch] -> relations [b, q, way]."""
        (b, way), q = support.shape[:2], query.shape[1]
        asked = query.unsqueeze(2).expand(-1, -1, way, -1, -1)  # [b, q, way, ch, ch]
        pairs = torch.stack([support.mean(2).unsqueeze(1).expand_as(asked), asked], dim=3)  # [b, q, way, 2, ch, ch]
        return self._relate(pairs.flatten(1, 2)).view(b, q, way)

    def _relate(self, pairs: Tensor) -> Tensor:
        """pairs [b, m, 2, channels, channels] -> relations [b, m, 1]."""
        values = pairs
        if not self.training:  # with channels last in memory convolutions and poolings are faster, their slopes are not
            last = pairs.flatten(0, 1).contiguous(memory_format=torch.channels_last)
            values = last.unflatten(0, pairs.shape[:2])
        for number, block in enumerate(self.compare):
            moved = block(values)
            values = moved if number == 0 else values + moved
            values = F.max_pool2d(values.flatten(0, 1), 2).unflatten(0, pairs.shape[:2])
        return torch.sigmoid(self.relate(F.relu(self.hidden(values.flatten(2)))))
