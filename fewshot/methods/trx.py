"""TRX: tuples of frames of a query, matched with all tuples of a class by attention."""

from collections.abc import Callable, Sequence
from math import comb

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cubes.bank import FeatureBank
from ..cubes.reduced import half_where_asked, mean_cubes, used_videos
from ..episodes.episode import Episode, EpisodeRows
from ..episodes.randomness import EpisodeRandom
from ..errors import FewShotError
from .base import Defaults, Method
from .checks import require_choice, require_count, require_share
from .readout import positions, sequences
from .tuple_cross import TupleCross

TOKENS = ("time", "space")
# Bytes of the tuples' keys and values of the episodes that are worked on at once.
_TUPLE_BYTES = 256 * 2**20
# Bytes of the videos whose frames are mapped once for many episodes.
_MAPPED_BYTES = 2**30


class TRX(Method):
    """Perrett, Masullo, Burghardt, Mirmehdi, Damen, "Temporal-Relational CrossTransformers for Few-Shot Action
    Recognition", CVPR 2021.

    Frames get a sinusoidal position (x 0.1). For each cardinality w, every ordered tuple of w frames is one vector; a
    key (normalised) and a value are linear in it. Each tuple u of the query attends to the tuples of all shots of
    a class, proto(u) = sum softmax(key.key / sqrt(width)) value, and the logit is minus the mean over tuples of
    |value(u) - proto(u)|^2, averaged over cardinalities. tokens `space`: the sequence is all t*h*w positions, one at a
    time. Cardinalities above t are left out; where none is left, single frames are matched.

    State: crosses.I.{key.weight [width, w*c], key.bias, value.weight, value.bias, norm.weight, norm.bias}.

    Differs from the paper in: the backbone is frozen; `tokens` is our addition, as is what happens at small t. As in
    the authors' code the loss is the sum over an episode's queries.
    """

    places: Tensor
    defaults = Defaults(optimiser="sgd", lr=0.001, batch=16, episodes=10_000, query_mode="per_class", queries=5)

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        cardinalities: Sequence[int] = (2, 3),
        tokens: str = "time",
        width: int = 1152,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_choice("tokens", tokens, TOKENS)
        require_count("width", width)
        require_share("dropout", dropout)
        if not isinstance(cardinalities, list | tuple) or not cardinalities:
            raise FewShotError(f"cardinalities ({cardinalities!r}) must be a list of whole numbers, such as [2, 3]")
        for cardinality in cardinalities:
            require_count("cardinalities", cardinality)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.cardinalities, self.tokens = list(cardinalities), tokens
        self.width, self.dropout = width, dropout
        self.readout = "cube" if tokens == "space" else "seq"
        channels, t, h, w = self.cube_shape
        self.length = t * h * w if tokens == "space" else t
        self.used = [1] if tokens == "space" else [n for n in self.cardinalities if n <= t] or [1]
        self.crosses = nn.ModuleList(TupleCross(channels, self.length, n, width) for n in self.used)
        self.register_buffer("places", _sinusoids(self.length, channels), persistent=False)

    def note(self) -> str:
        """Which cardinalities a short cube leaves."""
        if self.tokens == "space" or self.used == self.cardinalities:
            return ""
        return f"cubes have t = {self.cube_shape[1]}, so TRX matches tuples of {', '.join(map(str, self.used))} alone"

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way]."""
        support, query = self._tokens(episode.support), self._tokens(episode.query)
        size = self._episodes_at_once(support.shape[1] * support.shape[2] + query.shape[1])
        parts = zip(support.split(size), query.split(size), strict=True)
        return torch.cat([self._match(self._map(of_support), self._map(of_query)) for of_support, of_query in parts])

    def score_rows(
        self,
        bank: FeatureBank,
        rows: EpisodeRows,
        random: EpisodeRandom,
        advance: Callable[[int], None] | None = None,
    ) -> Tensor | None:
        """Logits [e, q, way]: where there is room each video's frames are mapped once, whatever episodes it is in."""
        if self.tokens == "space":
            return None
        videos, (support, query) = used_videos(rows)
        tokens = self._tokens(mean_cubes(bank, videos, self.readout))  # [n, t, c]
        local = EpisodeRows(support, query, rows.labels, rows.classes)
        each = 8 * self.width * self.length * sum(self.used)  # bytes of a mapped video, float32
        most = _MAPPED_BYTES // (each * (support[0].size + query[0].size))  # episodes
        several = len(rows) if each * len(videos) <= _MAPPED_BYTES else max(1, most)
        with half_where_asked(bank):
            return torch.cat(
                [self._score_part(tokens, local[i : i + several], advance) for i in range(0, len(rows), several)]
            )

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy, summed over the queries of an episode; mean over episodes."""
        return super().loss(episode, smoothing=smoothing) * episode.labels.shape[1]

    def _score_part(self, tokens: Tensor, rows: EpisodeRows, advance: Callable[[int], None] | None) -> Tensor:
        """Logits float32 [e, q, way] of episodes of videos with tokens [n, t, c]."""
        videos, places = used_videos(rows)
        mapped = self._map(tokens[torch.from_numpy(videos).to(tokens.device)])
        support, query = (torch.from_numpy(part).to(tokens.device) for part in places)
        size, found = self._episodes_at_once(support[0].numel() + query[0].numel()), []
        for of_support, of_query in zip(support.split(size), query.split(size), strict=True):
            found.append(
                self._match([part[of_support] for part in mapped], [part[of_query] for part in mapped]).float()
            )
            if advance is not None:
                advance(len(of_query))
        return torch.cat(found)

    def _map(self, tokens: Tensor) -> list[Tensor]:
        """Tokens [..., n, c] -> those of each cross, [..., m, 2*width]."""
        return [cross.map(tokens) for cross in self.crosses if isinstance(cross, TupleCross)]

    def _match(self, support: Sequence[Tensor], query: Sequence[Tensor]) -> Tensor:
        """Mapped tokens of each cross, [b, way, shot, m, 2*width] and [b, q, m, 2*width] -> logits [b, q, way]."""
        return -torch.stack([cross(*part) for cross, *part in zip(self.crosses, support, query, strict=True)]).mean(0)

    def _episodes_at_once(self, videos: int) -> int:
        """How many, of so many videos each."""
        most = max(comb(self.length, cardinality) for cardinality in self.used)
        return max(1, _TUPLE_BYTES // (8 * self.width * most * videos))  # key and value, float32

    def _tokens(self, cubes: Tensor) -> Tensor:
        """Cubes [..., c, t, h, w] -> tokens [..., n, c] that know their place."""
        read = positions(cubes) if self.tokens == "space" else sequences(cubes)
        return F.dropout(read + self.places.to(read.dtype), self.dropout, self.training)


def _sinusoids(length: int, channels: int) -> Tensor:
    """0.1 sin and 0.1 cos of a place's number, in turn, ever slower along the channels: [length, channels]."""
    place = torch.arange(length, dtype=torch.float64).unsqueeze(1)  # [length, 1]
    channel = torch.arange(channels)
    angle = place * 10_000.0 ** (-2.0 * (channel // 2) / channels)  # [length, channels]
    return (0.1 * torch.where(channel % 2 == 0, angle.sin(), angle.cos())).float()
