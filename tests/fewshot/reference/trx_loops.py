"""TRX written out: concatenated tuples, one query, class and tuple at a time."""

import itertools
import math

import torch


def tokens(cube, o):
    c, t, h, w = cube.shape
    if o["tokens"] == "space":
        found = [cube[:, i, j, k] for i in range(t) for j in range(h) for k in range(w)]
    else:
        found = [cube[:, i].reshape(c, -1).sum(1) / (h * w) for i in range(t)]
    placed = []
    for place, token in enumerate(found):
        code = torch.zeros_like(token)
        for channel in range(c):
            angle = place * 10_000 ** (-2 * (channel // 2) / c)
            code[channel] = 0.1 * (math.sin(angle) if channel % 2 == 0 else math.cos(angle))
        placed.append(token + code)
    return placed


def tuples(cube, cardinality, o):
    return [torch.cat(chosen) for chosen in itertools.combinations(tokens(cube, o), cardinality)]


def normalised(v, weight, bias):
    mean = v.mean()
    return (v - mean) / (((v - mean) ** 2).mean() + 1e-5).sqrt() * weight + bias


def logits(support, query, params, o):
    t = support.shape[3]
    used = [1] if o["tokens"] == "space" else ([w for w in o["cardinalities"] if w <= t] or [1])
    rows = []
    for asked in query:
        row = []
        for shots in support:
            total = 0
            for number, cardinality in enumerate(used):
                p = {k.split(".", 2)[2]: v for k, v in params.items() if k.startswith(f"crosses.{number}.")}

                def key(x, p=p):
                    return normalised(p["key.weight"] @ x + p["key.bias"], p["norm.weight"], p["norm.bias"])

                def value(x, p=p):
                    return p["value.weight"] @ x + p["value.bias"]

                known = [x for shot in shots for x in tuples(shot, cardinality, o)]
                mine = tuples(asked, cardinality, o)
                distance = 0
                for u in mine:
                    scores = torch.stack([(key(u) * key(s)).sum() / math.sqrt(len(key(s))) for s in known])
                    shares = scores.softmax(0)
                    prototype = sum(a * value(s) for a, s in zip(shares, known, strict=True))
                    distance = distance + ((value(u) - prototype) ** 2).sum()
                total = total + distance / len(mine)
            row.append(-total / len(used))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def loss(support, query, labels, ids, params, o):
    """Summed over queries."""
    found = logits(support, query, params, o)
    return -sum(row.log_softmax(0)[label] for row, label in zip(found, labels, strict=True))
