"""Stored cubes in a training loop of your own: learn a projection on the train classes, test it on episodes.

    python examples/torch_dataset.py cache/hmdb51_r3d.zarr

A linear layer on pooled cubes learns to name the train classes; its hidden layer is then the space in which a query of
a test episode is compared with the mean of each way's supports.
"""

import sys
from pathlib import Path

import torch
from mastaf.cache.store import Store, open_store
from mastaf.fewshot.cubes.dataset import CubeDataset, EpisodeDataset
from mastaf.fewshot.episodes.episode import Episode
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils.data import DataLoader


def pooled(cubes: Tensor) -> Tensor:
    """[..., c, t, h, w] -> [..., c]."""
    return cubes.mean((-3, -2, -1))


def learn(store: Store, *, width: int = 64, epochs: int = 20, workers: int = 2) -> nn.Module:
    """The hidden layer of a classifier of the train classes: [..., c] -> [..., width]."""
    torch.manual_seed(0)
    videos = CubeDataset(store, split="train")
    hidden, names = nn.Linear(store.spec.cube_shape[0], width), nn.Linear(width, len(videos.class_names))
    optimiser = torch.optim.AdamW([*hidden.parameters(), *names.parameters()], lr=1e-3)
    loader = DataLoader(videos, batch_size=32, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    for _ in range(epochs):
        for cubes, labels in loader:  # [b, c, t, h, w], [b]
            optimiser.zero_grad()
            cross_entropy(names(hidden(pooled(cubes)).relu()), labels).backward()
            optimiser.step()
    return hidden


@torch.no_grad()
def score(store: Store, hidden: nn.Module, *, way: int, episodes: int, workers: int = 2) -> float:
    """Accuracy on the first test episodes, those that `mastaf-fewshot evaluate` scores too."""
    right = 0
    chosen = EpisodeDataset(store, split="test", way=way, shot=1, episodes=episodes)
    for batch in DataLoader(chosen, batch_size=16, num_workers=workers):
        episode = Episode(**batch)
        prototypes = hidden(pooled(episode.support).mean(2))  # [b, way, width]
        queries = hidden(pooled(episode.query))  # [b, q, width]
        logits = cosine_similarity(queries[:, :, None], prototypes[:, None], dim=-1)  # [b, q, way]
        right += int((logits.argmax(-1) == episode.labels).sum())
    return right / episodes


def main(path: Path) -> None:
    store = open_store(path)
    way = min(5, len(store.index.classes_of("test")))
    hidden = learn(store)
    print(f"{way}-way 1-shot accuracy: {score(store, hidden, way=way, episodes=1000):.3f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
