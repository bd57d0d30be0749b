"""The recipe `classify`: supervised cross-entropy over the base classes, after mean pooling of the cube."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...cache.console import Progress
from ...extract.backbones.base import Backbone
from ...extract.backbones.inference import PRECISIONS, channels_last
from ..errors import PipelineError
from .augment import augment
from .clips import ClipSource

_WARM_UP = 0.05  # share of the steps over which the learning rate rises; a cosine takes it to zero after that


def train(
    base: Backbone,
    source: ClipSource,
    labels: dict[int, int],
    *,
    n_classes: int,
    out: Path,
    steps: int,
    batch: int,
    lr: float,
    weight_decay: float,
    augmentations: Sequence[str],
    seed: int,
    precision: str,
    device: str,
) -> dict[str, float]:
    """Train `base.module` in place. Returns loss and accuracy over the last tenth of the steps, and the seconds."""
    net = channels_last(base.module.to(device)).train()
    head = _head(base.cube_shape[0], n_classes, seed).to(device)
    optimiser = _optimiser([*net.parameters(), *head.parameters()], lr, weight_decay)
    start, losses, hits = time.monotonic(), [], []
    stream = _batches(source, labels, steps=steps, batch=batch, names=augmentations, seed=seed, size=base.size)
    with (out / "metrics.jsonl").open("w", encoding="utf-8") as log, Progress(steps, "training", "steps") as progress:
        for step, (clips, wanted) in enumerate(stream):
            for group in optimiser.param_groups:
                group["lr"] = lr * _schedule(step, steps)
            loss, right = _step(base, head, optimiser, clips.to(device), wanted.to(device), precision)
            if not math.isfinite(loss):
                raise PipelineError(f"the loss is {loss} at step {step + 1}; use a smaller --lr or --precision fp32")
            losses.append(loss)
            hits.append(right)
            log.write(json.dumps({"step": step + 1, "loss": loss, "accuracy": right}) + "\n")
            progress.advance(note=f"loss {np.mean(losses[-20:]):.3f}, accuracy {np.mean(hits[-20:]):.3f}")
    net.eval()
    last = max(1, steps // 10)
    seconds = time.monotonic() - start
    return {"loss": float(np.mean(losses[-last:])), "accuracy": float(np.mean(hits[-last:])), "seconds": seconds}


def _step(
    base: Backbone, head: nn.Module, optimiser: torch.optim.Optimizer, clips: Tensor, wanted: Tensor, precision: str
) -> tuple[float, float]:
    """One update on clips [b, frames, size, size, 3] and labels [b]. Returns loss and accuracy."""
    dtype = PRECISIONS[precision]
    with torch.autocast(clips.device.type, dtype=dtype, enabled=dtype != torch.float32):
        pooled = base.forward(clips).mean(dim=(2, 3, 4))  # [b, c]
    logits = head(pooled.float())  # [b, n_classes]
    loss = F.cross_entropy(logits, wanted)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item(), (logits.argmax(dim=1) == wanted).float().mean().item()


def _head(channels: int, n_classes: int, seed: int) -> nn.Linear:
    with torch.device("meta"):  # so that no number of the global generator is spent
        head = nn.Linear(channels, n_classes)
    head.to_empty(device="cpu")
    with torch.no_grad():
        head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
        head.bias.zero_()
    return head


def _optimiser(parameters: Sequence[Tensor], lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; scales and biases are not decayed."""
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr)


def _schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: a linear rise, then half a cosine."""
    return min((step + 1) / max(1.0, _WARM_UP * steps), 0.5 * (1 + math.cos(math.pi * step / steps)))


def _batches(
    source: ClipSource, labels: dict[int, int], *, steps: int, batch: int, names: Sequence[str], seed: int, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Clips uint8 [batch, frames, size, size, 3] and labels int64 [batch], the next being made while one is used.

    Rows go round in one random order after another; step i depends on (seed, i) alone, however it is made.
    """
    rows = np.array(sorted(labels))

    def make(step: int) -> tuple[Tensor, Tensor]:
        epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), len(rows))  # [batch], [batch]
        orders = {epoch: _order(seed, epoch, len(rows)) for epoch in set(epochs.tolist())}
        chosen = [int(rows[orders[epoch][place]]) for epoch, place in zip(epochs.tolist(), places, strict=True)]
        rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 1, step]))
        clips = [augment(clip, names, rng, size=size) for clip in source.load(chosen)]
        return torch.from_numpy(np.stack(clips)), torch.tensor([labels[row] for row in chosen])

    with ThreadPoolExecutor(max_workers=1) as ahead:
        coming = ahead.submit(make, 0)
        for step in range(steps):
            ready = coming.result()
            coming = ahead.submit(make, min(step + 1, steps - 1))
            yield ready


def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The random order of `count` rows in an epoch."""
    return np.argsort(np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 2, epoch])).random(count))
