"""The recipes `episodic` and `tail`: a head's own loss on episodes, through the head and the network behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...extract.backbones.base import Backbone
from ...extract.backbones.inference import PRECISIONS
from ...fewshot.cubes.views import draw_views
from ...fewshot.episodes.episode import Episode, EpisodeRows
from ...fewshot.episodes.randomness import EpisodeRandom
from ...fewshot.episodes.sampler import EpisodeSampler
from ...fewshot.methods.base import Method
from ...fewshot.scoring import chunks
from ...fewshot.statistics.metrics import episode_accuracy, mean_and_ci95
from .sources import Source
from .task import Part, Task, split_parts
from .tuning import Tuning

_SCORED_AT_ONCE = 8  # clips, when val is scored
_CALIBRATED = 64  # clips by which a head sets its scale


@dataclass(frozen=True, eq=False)
class Loaded:
    """`b` episodes before the network has seen them. inputs: [b * (way * shot + q), ...], all supports first;
    class_ids: int64 [b, way]."""

    rows: EpisodeRows
    inputs: Tensor
    class_ids: Tensor


def episode_task(
    base: Backbone,
    method: Method,
    source: Source,
    sampler: EpisodeSampler,
    tuning: Tuning,
    *,
    train_class_ids: Mapping[str, int],
    device: torch.device,
    front: str | None = None,
) -> Task:
    """Episodes and views are those that stage two would draw with the same seed."""
    ids = np.array([train_class_ids[name] for name in sampler.class_names])
    videos = sampler.way * sampler.shot + sampler.queries_per_episode

    def parts(update: int) -> list[Part]:
        start, count = update * tuning.batch, tuning.count(update)
        cut = split_parts(count, tuning.accumulate)
        return [(range(start + part.start, start + part.stop), len(part) / count) for part in cut]

    def load(episodes: range) -> Loaded:
        rows = sampler.rows(episodes.start, len(episodes))
        views = draw_views(tuning.seed, episodes.start, len(episodes), videos, source.views)  # [b, videos]
        supports = rows.support[0].size
        positions = np.concatenate([rows.support.ravel(), rows.query.ravel()])
        drawn = np.concatenate([views[:, :supports].ravel(), views[:, supports:].ravel()])
        rng = np.random.Generator(np.random.Philox(key=tuning.seed, counter=[0, episodes.start, 3, 0]))
        return Loaded(rows, source.load(positions, drawn, rng), torch.from_numpy(ids[rows.classes]))

    def loss(batch: Loaded) -> tuple[Tensor, dict[str, float]]:
        cubes = live_cubes(source, batch.inputs.to(device), tuning.precision)  # [m, c, t, h, w]
        episode = _episode(batch, cubes)
        return method.loss(episode, smoothing=tuning.label_smoothing), {}

    return Task(base=base, head=method, parts=parts, load=load, loss=loss, unit="episodes", front=front)


def live_cubes(source: Source, inputs: Tensor, precision: str) -> Tensor:
    """Cubes float32 [m, c, t, h, w] of inputs [m, ...]; the network computes at `precision`, the head does not."""
    dtype = PRECISIONS[precision]
    with torch.autocast(inputs.device.type, dtype=dtype, enabled=dtype != torch.float32):
        cubes = source.cubes(inputs)
    return cubes.float()


def _episode(batch: Loaded, cubes: Tensor) -> Episode:
    b, way, shot = batch.rows.support.shape
    support, query = cubes[: b * way * shot], cubes[b * way * shot :]
    labels = torch.from_numpy(batch.rows.labels).to(cubes.device)
    return Episode(
        support.unflatten(0, (b, way, shot)),  # [b, way, shot, c, t, h, w]
        query.unflatten(0, (b, batch.rows.query.shape[1])),  # [b, q, c, t, h, w]
        labels,
        batch.class_ids.to(cubes.device),
    )


def calibrate(method: Method, source: Source, base: Backbone, *, precision: str, device: torch.device) -> None:
    """Let a head that sets a feature scale see cubes of train videos, as the network makes them before the training."""
    inner = getattr(method, "method", method)  # behind an adapter
    if type(inner).calibrate is Method.calibrate:
        return
    positions = np.linspace(0, len(source.keys) - 1, min(len(source.keys), _CALIBRATED)).astype(np.int64)
    base.module.to(device).eval()
    method.to(device)
    with torch.no_grad():
        found = [
            live_cubes(source, source.load(part, np.zeros_like(part)).to(device), precision)
            for part in np.array_split(positions, -(-len(positions) // _SCORED_AT_ONCE))
        ]
        method.calibrate(torch.cat(found))


class LiveScore:
    """Accuracy of head and network as they are now on fixed episodes, and its half width: what selects weights.

    Every video of the episodes goes through the network once, in evaluation mode, and its cube is rounded to float16,
    as a store would have it.
    """

    def __init__(
        self, base: Backbone, method: Method, source: Source, rows: EpisodeRows, *, precision: str, device: torch.device
    ) -> None:
        self._base, self._method, self._source, self._precision = base, method, source, precision
        self._device = device
        self._videos, places = np.unique(
            np.concatenate([rows.support.ravel(), rows.query.ravel()]), return_inverse=True
        )
        supports = rows.support.size
        self._rows = replace(
            rows,
            support=places[:supports].reshape(rows.support.shape),  # [e, way, shot]
            query=places[supports:].reshape(rows.query.shape),  # [e, q]
        )

    def __call__(self) -> tuple[float, float]:
        self._base.module.eval()
        self._method.eval()
        with torch.no_grad():
            cubes = self._cubes()
            correct = [
                self._score(start, part, cubes) == part.labels
                for start, part in chunks(self._rows, self._base.cube_shape, self._device)
            ]
        return mean_and_ci95(episode_accuracy(np.concatenate(correct)))

    def _cubes(self) -> Tensor:
        """Float16 [n, c, t, h, w] of the videos."""
        found = []
        for start in range(0, len(self._videos), _SCORED_AT_ONCE):
            part = self._videos[start : start + _SCORED_AT_ONCE]
            inputs = self._source.load(part, np.zeros_like(part)).to(self._device)
            found.append(live_cubes(self._source, inputs, self._precision).half())
        return torch.cat(found)

    def _score(self, start: int, rows: EpisodeRows, cubes: Tensor) -> np.ndarray:
        """Predicted ways, int64 [b, q], of episodes whose rows are positions in `cubes`."""
        support = cubes[torch.from_numpy(rows.support)].float()  # [b, way, shot, c, t, h, w]
        query = cubes[torch.from_numpy(rows.query)].float()  # [b, q, c, t, h, w]
        labels = torch.from_numpy(rows.labels).to(cubes.device)
        unknown = torch.full(rows.classes.shape, -1, device=cubes.device)
        episode = Episode(support, query, labels, unknown)
        return self._method.score(episode, EpisodeRandom(first=start)).argmax(2).cpu().numpy()
