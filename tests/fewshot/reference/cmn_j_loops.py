"""CMN-J written out: one item, one saliency, one class at a time."""

import math

import torch


def items_of(cube, sequence):
    c, t, h, w = cube.shape
    if sequence == "time" or (sequence == "auto" and t > 1):
        return [cube[:, i].reshape(c, -1).sum(1) / (h * w) for i in range(t)]
    return [cube[:, i, j, k] for i in range(t) for j in range(h) for k in range(w)]


def unit(v):
    return v / (v * v).sum().sqrt().clamp_min(1e-12)


def rows_of(cube, params, o):
    saliencies = params["embedding.saliencies"]
    found = [torch.zeros_like(saliencies[0]) for _ in saliencies]
    for x in items_of(cube, o["sequence"]):
        shares = torch.stack([(x * h).sum() / math.sqrt(len(x)) for h in saliencies]).softmax(0)
        found = [q + a * (x - h) for q, a, h in zip(found, shares, saliencies, strict=True)]
    return [unit(q) for q in found]


def key_of(rows, params):
    return unit(params["embedding.key.weight"] @ torch.cat(list(rows)) + params["embedding.key.bias"])


def logits(support, query, params, o):
    rows = []
    for asked in query:
        z, row = key_of(rows_of(asked, params, o), params), []
        for shots in support:
            of_shots = [rows_of(shot, params, o) for shot in shots]
            slot = [unit(sum(shot[j] for shot in of_shots) / len(of_shots)) for j in range(o["saliencies"])]
            row.append((z * key_of(slot, params)).sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def loss(support, query, labels, ids, params, o):
    terms = []
    for row, label in zip(logits(support, query, params, o), labels, strict=True):
        if o["objective"] == "cross_entropy":
            terms.append(-(o["scale"] * row).log_softmax(0)[label])
            continue
        others = [score for n, score in enumerate(row) if n != label]
        terms.append((o["margin"] - row[label] + max(others)).clamp_min(0) if others else row[label] * 0)
    return sum(terms) / len(terms)
