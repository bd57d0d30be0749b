"""Baseline as one would write it: an nn.Linear and torch's SGD for one episode."""

import numpy as np
import torch


def mean_of(cube):
    return torch.stack([channel.sum() / channel.numel() for channel in cube])


def draws(rng, way, shot, c, epochs):
    """Initial weight [way, c], bias [way], and the order of the supports in each epoch."""
    n = way * shot
    numbers = rng.random(way * c + way + epochs * n, dtype=np.float32).astype(np.float64)
    first = (2 * numbers[: way * c + way] - 1) / np.sqrt(c)
    order = numbers[way * c + way :].reshape(epochs, n).argsort(axis=1, kind="stable")
    return torch.from_numpy(first[: way * c].reshape(way, c)), torch.from_numpy(first[way * c :]), order


def descend(parameters, loss_of, order, o):
    sgd = torch.optim.SGD(parameters, lr=o["support_lr"], momentum=0.9, dampening=0.9, weight_decay=0.001)
    for epoch in order:
        for start in range(0, len(epoch), o["mini_batch"]):
            sgd.zero_grad()
            loss_of(epoch[start : start + o["mini_batch"]]).backward()
            sgd.step()


def logits(support, query, params, o, rng):
    way, shot, c = support.shape[:3]
    weight, bias, order = draws(rng, way, shot, c, o["epochs"])
    layer = torch.nn.Linear(c, way).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    x = torch.stack([mean_of(shot) for shots in support for shot in shots])
    y = torch.tensor([n for n in range(way) for _ in range(shot)])
    with torch.enable_grad():
        descend(layer.parameters(), lambda part: torch.nn.functional.cross_entropy(layer(x[part]), y[part]), order, o)
    return torch.stack([layer(mean_of(asked)) for asked in query]).detach()


def loss(support, query, labels, ids, params, o):
    videos = [(shot, ids[n]) for n, shots in enumerate(support) for shot in shots]
    videos += [(asked, ids[label]) for asked, label in zip(query, labels, strict=True)]
    total = 0
    for cube, number in videos:
        scores = params["classifier.weight"] @ mean_of(cube) + params["classifier.bias"]
        total = total - scores.log_softmax(0)[number]
    return total / len(videos)
