"""How ProtoGAN learns from the train classes: the encoder, then a classifier, then generator against critic."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cubes.bank import FeatureBank
from ..errors import FewShotError
from .readout import squared_distances

if TYPE_CHECKING:
    from .protogan import ProtoGAN

BATCH, CRITIC_STEPS, PENALTY = 128, 5, 10.0
CLASS_WEIGHT, COSINE_WEIGHT = 0.01, 0.1
EPISODES, WAY, MOST_SHOTS = 16, 5, 5
_BLOCK = 64  # videos read at once


class TrainVideos:
    """Features [n, c] of train videos, drawn by class and with replacement."""

    def __init__(self, features: Tensor, classes: np.ndarray, rng: np.random.Generator) -> None:
        self.features, self.rng = features, rng
        self._order = classes.argsort(kind="stable")  # [n], videos by class
        self._sizes = np.bincount(classes)  # [Z]
        self._starts = self._sizes.cumsum() - self._sizes
        self.n_classes = len(self._sizes)

    def classes(self, count: int, way: int) -> np.ndarray:
        """Different classes, int64 [count, way]."""
        return self.rng.random((count, self.n_classes)).argsort(axis=1)[:, :way]

    def others(self, classes: np.ndarray) -> np.ndarray:
        """For each of classes [m] another one."""
        return (classes + self.rng.integers(1, self.n_classes, classes.shape)) % self.n_classes

    def of(self, classes: np.ndarray, each: int) -> Tensor:
        """`each` videos of each of classes [...]: [..., each, c]."""
        places = self.rng.random((*classes.shape, each)) * self._sizes[classes][..., None]
        rows = self._order[self._starts[classes][..., None] + places.astype(np.int64)]  # [..., each]
        return self.features[torch.from_numpy(rows).to(self.features.device)]

    def prototypes(self, read: Tensor) -> Tensor:
        """Means [..., p] of the first 1 to shots of read [..., shots, p], how many is drawn for each, as test episodes
        have few shots or several."""
        shots = read.shape[-2]
        counts = torch.from_numpy(self.rng.integers(1, shots + 1, read.shape[:-2])).to(read.device)  # [...]
        sums = read.cumsum(-2).gather(-2, (counts - 1)[..., None, None].expand(*counts.shape, 1, read.shape[-1]))
        return sums.squeeze(-2) / counts.unsqueeze(-1)

    def noise(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.from_numpy(self.rng.standard_normal(shape, dtype=np.float32)).to(self.features)


def fit_protogan(method: "ProtoGAN", bank: FeatureBank, rng: np.random.Generator) -> None:
    """Train encoder and generator in place on the videos of a bank. Raises FewShotError for a single class."""
    if len(bank.class_names) < 2:
        raise FewShotError(
            f"protogan needs at least 2 train classes, but {bank.store.path} has {len(bank.class_names)}"
        )
    numbers = {name: number for number, name in enumerate(bank.class_names)}
    blocks = [np.arange(start, min(start + _BLOCK, len(bank))) for start in range(0, len(bank), _BLOCK)]
    with torch.no_grad():
        features = torch.cat([method.read(bank.cubes(block)) for block in blocks])  # [n, c]
    videos = TrainVideos(features, np.array([numbers[name] for name in bank.classes]), rng)
    _fit_encoder(method, videos)
    _fit_generator(method, videos, _fit_classifier(videos, steps=method.encoder_steps))


def _fit_encoder(method: "ProtoGAN", videos: TrainVideos) -> None:
    adam, way = torch.optim.Adam(method.encoder.parameters(), lr=0.001), min(WAY, videos.n_classes)
    labels = torch.arange(way, device=videos.features.device).repeat(EPISODES)  # [episodes*way]
    for _ in range(method.encoder_steps):
        read = method.encoder(videos.of(videos.classes(EPISODES, way), MOST_SHOTS + 1))  # [episodes, way, shots + 1, p]
        distances = squared_distances(read[:, :, -1], videos.prototypes(read[:, :, :-1]))  # [episodes, way, way]
        _step(adam, F.cross_entropy(-distances.flatten(0, 1) / method.temperature, labels))


def _fit_classifier(videos: TrainVideos, *, steps: int) -> nn.Linear:
    """A softmax classifier of the train classes."""
    device = videos.features.device
    classifier = nn.Linear(videos.features.shape[1], videos.n_classes).to(device)
    adam = torch.optim.Adam(classifier.parameters(), lr=0.001)
    for _ in range(steps):
        classes = videos.rng.integers(0, videos.n_classes, BATCH)  # [BATCH]
        logits = classifier(videos.of(classes, 1).squeeze(1))  # [BATCH, Z]
        _step(adam, F.cross_entropy(logits, torch.from_numpy(classes).to(device)))
    return classifier.requires_grad_(False)


def _fit_generator(method: "ProtoGAN", videos: TrainVideos, classifier: nn.Linear) -> None:
    from .protogan import small_weights

    size = method.cube_shape[0] + method.prototype_size
    critic = nn.Sequential(nn.Linear(size, method.hidden), nn.LeakyReLU(0.2), nn.Linear(method.hidden, 1))
    critic.apply(small_weights).to(videos.features.device)
    ours, theirs = (
        torch.optim.Adam(net.parameters(), lr=method.gan_lr, betas=(0.5, 0.999)) for net in (method.generator, critic)
    )
    for _ in range(method.gan_steps):
        for _ in range(CRITIC_STEPS):
            classes, prototypes, real = _batch(method, videos)
            with torch.no_grad():
                made = method.generate(videos.noise(BATCH, method.prototype_size), prototypes)  # [BATCH, c]
            gap = _judge(critic, made, prototypes).mean() - _judge(critic, real, prototypes).mean()
            _step(theirs, gap + PENALTY * _slope_penalty(critic, real, made, prototypes, videos))
        classes, prototypes, real = _batch(method, videos)
        made = method.generate(videos.noise(BATCH, method.prototype_size), prototypes)
        others = videos.of(videos.others(classes), 1).squeeze(1)  # [BATCH, c]
        wanted = torch.from_numpy(classes).to(made.device)
        total = CLASS_WEIGHT * F.cross_entropy(classifier(made), wanted) - _judge(critic, made, prototypes).mean()
        near = 1 - F.cosine_similarity(made, real) + F.cosine_similarity(made, others).relu()  # [BATCH]
        _step(ours, total + COSINE_WEIGHT * near.mean())


def _batch(method: "ProtoGAN", videos: TrainVideos) -> tuple[np.ndarray, Tensor, Tensor]:
    """Classes [BATCH], a prototype [BATCH, p] of other draws of each, and a video [BATCH, c] of each."""
    classes = videos.rng.integers(0, videos.n_classes, BATCH)
    drawn = videos.of(classes, MOST_SHOTS + 1)  # [BATCH, shots + 1, c]
    with torch.no_grad():
        return classes, videos.prototypes(method.encoder(drawn[:, 1:])), drawn[:, 0]


def _judge(critic: nn.Module, features: Tensor, prototypes: Tensor) -> Tensor:
    return critic(torch.cat([features, prototypes], dim=-1))


def _slope_penalty(critic: nn.Module, real: Tensor, made: Tensor, prototypes: Tensor, videos: TrainVideos) -> Tensor:
    """How far the critic's slope is from 1, between real and made features [BATCH, c]."""
    share = torch.from_numpy(videos.rng.random((len(real), 1), dtype=np.float32)).to(real)  # [BATCH, 1]
    between = (share * real + (1 - share) * made).requires_grad_(True)
    (slope,) = torch.autograd.grad(_judge(critic, between, prototypes).sum(), between, create_graph=True)
    return (torch.linalg.vector_norm(slope, dim=-1) - 1).square().mean()


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
