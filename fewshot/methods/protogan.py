"""ProtoGAN: a classifier for each episode, trained on the supports and on features that a generator adds to them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cubes.bank import FeatureBank
from ..episodes.episode import Episode
from ..episodes.randomness import EpisodeRandom
from .base import Method
from .checks import require_count, require_number
from .readout import squared_distances, vectors

# Bytes of the videos that classifiers are fitted to at once.
_FIT_BYTES = 64 * 2**20


class ProtoGAN(Method):
    """Dwivedi, Gupta, Mitra, Ahmed, Jain, "ProtoGAN: Towards Few Shot Learning for Action Recognition", ICCV Workshops
    2019 (arXiv 1909.07945).

    With x = the mean of a cube over time and space, divided by the train videos' mean length: an encoder E is trained
    episodically, with class prototypes c_n = mean_k E(x_k) and logits -|E(x_q) - c_n|^2 / temperature. Then a
    conditional Wasserstein GAN learns to generate x from noise and a prototype (`protogan_training`). For a test
    episode `n_synthetic` features are generated for each class, and a linear softmax is fitted to real and generated
    ones, in weight one to one, by full-batch Adam (0.001) from zero; its outputs are the logits.

    In training a prototype is the mean of one to five videos, by chance, because a test episode's may be of one. What
    the generated features are worth differs from training to training, and they can hurt (n_synthetic 0: none); a
    training that is stopped early (gan_steps) leaves features that are worse than none.

    State: encoder.*, generator.*, `length`, and `signed`, whether features may be negative (else the generator's are
    not).

    Differs from the paper in: only its abstract was at hand; networks and losses are those of Xian et al., "Feature
    Generating Networks for Zero-Shot Learning", CVPR 2018, and the sizes of E, the steps and weights are ours. The
    backbone is frozen.
    """

    readout = "vec"
    draws = fits = True
    episodic = False
    length: Tensor
    signed: Tensor

    def __init__(
        self,
        *,
        cube_shape: Sequence[int],
        n_train_classes: int,
        prototype_size: int = 256,
        encoder_hidden: int = 512,
        hidden: int = 4096,
        temperature: float = 1.0,
        n_synthetic: int = 100,
        support_steps: int = 100,
        encoder_steps: int = 500,
        gan_steps: int = 2_000,
        gan_lr: float = 0.0001,
    ) -> None:
        super().__init__()
        sizes = {"prototype_size": prototype_size, "encoder_hidden": encoder_hidden, "hidden": hidden}
        steps = {"support_steps": support_steps, "encoder_steps": encoder_steps, "gan_steps": gan_steps}
        for name, value in {**sizes, **steps}.items():
            require_count(name, value)
        require_count("n_synthetic", n_synthetic, least=0)
        require_number("temperature", temperature, above=True)
        require_number("gan_lr", gan_lr, above=True)
        self.cube_shape, self.n_train_classes = tuple(cube_shape), n_train_classes
        self.prototype_size, self.encoder_hidden, self.hidden = prototype_size, encoder_hidden, hidden
        self.temperature, self.n_synthetic = temperature, n_synthetic
        self.support_steps, self.encoder_steps, self.gan_steps = support_steps, encoder_steps, gan_steps
        self.gan_lr = gan_lr
        channels = self.cube_shape[0]
        self.encoder = nn.Sequential(
            nn.Linear(channels, encoder_hidden), nn.LeakyReLU(0.2), nn.Linear(encoder_hidden, prototype_size)
        )
        self.generator = nn.Sequential(
            nn.Linear(2 * prototype_size, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, channels)
        )
        self.generator.apply(small_weights)
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("signed", torch.tensor(False))

    @torch.no_grad()
    def calibrate(self, cubes: Tensor) -> None:
        """Set `length` and `signed` from train cubes [n, c, t, h, w]."""
        read = vectors(cubes)  # [n, c]
        self.length.copy_(torch.linalg.vector_norm(read, dim=-1).mean().clamp_min(1e-12))
        self.signed.copy_((read < 0).any())

    def fit(self, bank: FeatureBank, rng: np.random.Generator) -> None:
        """Train encoder and generator on the train videos."""
        from .protogan_training import fit_protogan

        fit_protogan(self, bank, rng)

    def forward(self, episode: Episode) -> Tensor:
        """Logits [b, q, way] of one fixed draw."""
        return self.score(episode, EpisodeRandom())

    def loss(self, episode: Episode, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of the encoder's prototypes, a scalar."""
        prototypes = self.encoder(self.read(episode.support)).mean(2)  # [b, way, p]
        distances = squared_distances(self.encoder(self.read(episode.query)), prototypes)  # [b, q, way]
        logits = -distances / self.temperature
        return F.cross_entropy(logits.flatten(0, 1), episode.labels.flatten(), label_smoothing=smoothing)

    def score(self, episode: Episode, random: EpisodeRandom) -> Tensor:
        """Logits [b, q, way] of classifiers fitted to real and generated features."""
        support, query = self.read(episode.support), self.read(episode.query)  # [b, way, shot, c], [b, q, c]
        shape = (support.shape[1], self.n_synthetic, self.prototype_size)
        drawn = [random.of(i).standard_normal(shape, dtype=np.float32) for i in range(len(support))]
        noise = torch.from_numpy(np.stack(drawn)).to(support)  # [b, way, M, p]
        each = support[0, :, :1].numel() * (support.shape[2] + self.n_synthetic)
        size = max(1, _FIT_BYTES // (4 * each))
        parts = zip(support.split(size), query.split(size), noise.split(size), strict=True)
        return torch.cat([self._score(*part) for part in parts])

    def generate(self, noise: Tensor, prototypes: Tensor) -> Tensor:
        """Noise and prototypes [..., p] -> features [..., c]."""
        made = self.generator(torch.cat([noise, prototypes], dim=-1))
        return torch.where(self.signed, made, made.relu())

    def read(self, cubes: Tensor) -> Tensor:
        """Cubes [..., c, t, h, w] -> features [..., c]."""
        return vectors(cubes) / self.length

    def _score(self, support: Tensor, query: Tensor, noise: Tensor) -> Tensor:
        shot, more = support.shape[2], noise.shape[2]
        features, weights = support, support.new_full((shot,), 1 / shot)
        if more:
            prototypes = self.encoder(support).mean(2, keepdim=True).expand(*noise.shape[:3], -1)  # [b, way, M, p]
            features = torch.cat([support, self.generate(noise, prototypes)], dim=2)  # [b, way, shot + M, c]
            weights = torch.cat([weights / 2, support.new_full((more,), 1 / (2 * more))])
        weight, bias = _fit_softmax(features, weights, steps=self.support_steps)
        return query @ weight.transpose(1, 2) + bias.unsqueeze(1)


def small_weights(module: nn.Module) -> None:
    """Initial values of the GAN's layers."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


def _fit_softmax(features: Tensor, weights: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """Weight [b, way, c] and bias [b, way] of classifiers of features [b, way, n, c], fitted by Adam from zero.

    weights: [n], of a class's features in its loss, which is the mean over classes.
    """
    b, way, n, c = features.shape
    flat = features.flatten(1, 2)  # [b, way*n, c]
    wanted = torch.eye(way, dtype=flat.dtype, device=flat.device).repeat_interleave(n, dim=1)  # [way, way*n]
    share = weights.repeat(way) / way  # [way*n]
    values = [flat.new_zeros(b, way, c), flat.new_zeros(b, way)]
    first, second = ([torch.zeros_like(value) for value in values] for _ in range(2))
    for step in range(1, steps + 1):
        logits = values[0] @ flat.transpose(1, 2) + values[1].unsqueeze(2)  # [b, way, way*n]
        error = (torch.softmax(logits, dim=1) - wanted) * share
        slopes = [error @ flat, error.sum(-1)]
        first = [0.9 * m + 0.1 * g for m, g in zip(first, slopes, strict=True)]
        second = [0.999 * v + 0.001 * g.square() for v, g in zip(second, slopes, strict=True)]
        scaled = [v.div(1 - 0.999**step).clamp_min(1e-30).sqrt() + 1e-8 for v in second]
        moves = [m / (1 - 0.9**step) / s for m, s in zip(first, scaled, strict=True)]
        values = [value - 0.001 * move for value, move in zip(values, moves, strict=True)]
    return values[0], values[1]
