"""The recipe `classify`: supervised cross-entropy over the base classes, after mean pooling of the cube."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...extract.backbones.base import Backbone
from ...extract.backbones.inference import PRECISIONS
from .augment import augment
from .clips import Clips
from .task import Part, Task, split_parts
from .tuning import Tuning

Batch = tuple[Tensor, Tensor]  # clips uint8 [b, frames, size, size, 3], labels int64 [b]


def classify_task(
    base: Backbone,
    source: Clips,
    labels: Mapping[int, int],
    tuning: Tuning,
    *,
    n_classes: int,
    augmentations: Sequence[str],
    device: torch.device,
) -> Task:
    """labels: class by row of the source. Rows go round in one random order after another; a part of an update depends
    on the seed and its place alone, however it is made."""
    head = _head(base.cube_shape[0], n_classes, tuning.seed)
    rows = np.array(sorted(labels))
    dtype = PRECISIONS[tuning.precision]

    def parts(update: int) -> list[Part]:
        cut = split_parts(tuning.batch, tuning.accumulate)
        return [((update, part), len(part) / tuning.batch) for part in cut]

    def load(which: tuple[int, range]) -> Batch:
        update, part = which
        return _clips(source, rows, labels, tuning, augmentations, base.size, update, part)

    def loss(batch: Batch) -> tuple[Tensor, dict[str, float]]:
        clips, wanted = batch[0].to(device), batch[1].to(device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            pooled = base.forward(clips).mean(dim=(2, 3, 4))  # [b, c]
        logits = head(pooled.float())  # [b, n_classes]
        hits = (logits.argmax(dim=1) == wanted).float().mean()
        return F.cross_entropy(logits, wanted, label_smoothing=tuning.label_smoothing), {"accuracy": hits.item()}

    return Task(base=base, head=head, parts=parts, load=load, loss=loss, unit="clips")


def _clips(
    source: Clips,
    rows: np.ndarray,
    labels: Mapping[int, int],
    tuning: Tuning,
    names: Sequence[str],
    size: int,
    update: int,
    part: range,
) -> Batch:
    """The clips of a part of an update."""
    numbers = update * tuning.batch + np.arange(part.start, part.stop)  # [b]
    epochs, places = np.divmod(numbers, len(rows))  # [b], [b]
    orders = {epoch: _order(tuning.seed, epoch, len(rows)) for epoch in set(epochs.tolist())}
    chosen = [int(rows[orders[epoch][place]]) for epoch, place in zip(epochs.tolist(), places, strict=True)]
    rng = np.random.Generator(np.random.Philox(key=tuning.seed, counter=[0, part.start, 1, update]))
    clips = [augment(clip, names, rng, size=size) for clip in source.load(chosen, rng)]
    return torch.from_numpy(np.stack(clips)), torch.tensor([labels[row] for row in chosen])


def _head(channels: int, n_classes: int, seed: int) -> nn.Linear:
    with torch.device("meta"):  # so that no number of the global generator is spent
        head = nn.Linear(channels, n_classes)
    head.to_empty(device="cpu")
    with torch.no_grad():
        head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    return head


def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The random order of `count` rows in an epoch."""
    return np.argsort(np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 2, epoch])).random(count))
