"""CAN written out: cubes as lists of positions, one pair of query and class at a time."""

import torch


def columns(cube):
    _, t, h, w = cube.shape
    return [cube[:, i, j, k] for i in range(t) for j in range(h) for k in range(w)]


def cosine(u, v):
    return (u * v).sum() / ((u * u).sum().sqrt() * (v * v).sum().sqrt()).clamp_min(1e-12)


def attend(own, other, params, o):
    """Re-weighted positions of `own`."""
    size = len(own)
    relations = [torch.stack([cosine(u, v) for v in other]) for u in own]
    hidden = (params["first.weight"] @ (sum(relations) / size)).clamp_min(0)
    kernel = params["second.weight"] @ hidden
    fused = torch.stack([(kernel * row).sum() / (size if o["reduce"] == "mean" else 1) for row in relations])
    return [(1 + a) * u for a, u in zip((fused / o["tau"]).softmax(0), own, strict=True)]


def pairs(support, query, params, o):
    """For each query and class the attended positions of the query and of the class."""
    table = []
    for asked in query:
        row = []
        for shots in support:
            of_class, of_query = columns(sum(shots) / len(shots)), columns(asked)
            row.append((attend(of_query, of_class, params, o), attend(of_class, of_query, params, o)))
        table.append(row)
    return table


def mean(vectors):
    return sum(vectors) / len(vectors)


def logits(support, query, params, o):
    found = pairs(support, query, params, o)
    return torch.stack([torch.stack([o["scale"] * cosine(mean(q), mean(p)) for q, p in row]) for row in found])


def loss(support, query, labels, ids, params, o):
    near, overall = [], []
    for row, label in zip(pairs(support, query, params, o), labels, strict=True):
        for place, position in enumerate(row[label][0]):
            scores = torch.stack([o["scale"] * cosine(q[place], mean(p)) for q, p in row])
            near.append(-scores.log_softmax(0)[label])
            known = params["classifier.weight"] @ position + params["classifier.bias"]
            overall.append(-known.log_softmax(0)[ids[label]])
    return o["few_shot_weight"] * mean(near) + mean(overall)
