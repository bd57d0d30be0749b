"""CMN written out: one item, one saliency, one slot, one support at a time."""

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
    return params["embedding.key.weight"] @ torch.cat(list(rows)) + params["embedding.key.bias"]


def memory_of(support, params, o):
    """Slots as [rows, key, class]."""
    slots = []
    for k in range(len(support[0])):
        for n in range(len(support)):
            rows = rows_of(support[n][k], params, o)
            asked = unit(key_of(rows, params))
            best = max(slots, key=lambda slot, asked=asked: (asked * slot[1]).sum().item(), default=None)
            if best is None or best[2] != n:
                slots.append([rows, asked, n])
                continue
            best[0] = [unit(old + new) for old, new in zip(best[0], rows, strict=True)]
            best[1] = unit(key_of(best[0], params))
    return slots


def logits(support, query, params, o):
    rows = []
    slots = memory_of(support, params, o) if o["variant"] == "memory" else []
    for asked in query:
        z, row = key_of(rows_of(asked, params, o), params), []
        for n, shots in enumerate(support):
            if o["variant"] == "memory":
                row.append(max((unit(z) * key).sum() for _, key, of in slots if of == n))
                continue
            prototype = sum(key_of(rows_of(shot, params, o), params) for shot in shots) / len(shots)
            row.append(-((z - prototype) ** 2).sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def loss(support, query, labels, ids, params, o):
    found, terms = logits(support, query, params, o), []
    for row, label in zip(found, labels, strict=True):
        if o["variant"] == "lite":
            terms.append(-row.log_softmax(0)[label])
            continue
        others = [score for n, score in enumerate(row) if n != label]
        terms.append((o["margin"] - row[label] + max(others)).clamp_min(0) if others else row[label] * 0)
    return sum(terms) / len(terms)
