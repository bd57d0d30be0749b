"""FEAT written out: one set, one member, one query at a time."""

import math

import torch


def mean_of(cube, params):
    return torch.stack([channel.sum() / channel.numel() for channel in cube]) / params["length"]


def adapt(members, params):
    found = []
    for x in members:
        q = params["query.weight"] @ x
        shares = torch.stack([(q * (params["key.weight"] @ y)).sum() / math.sqrt(len(x)) for y in members]).softmax(0)
        read = sum(a * (params["value.weight"] @ y) for a, y in zip(shares, members, strict=True))
        moved = params["output.weight"] @ read + params["output.bias"] + x
        mean = moved.mean()
        scaled = (moved - mean) / (((moved - mean) ** 2).mean() + 1e-5).sqrt()
        found.append(scaled * params["norm.weight"] + params["norm.bias"])
    return found


def score(v, centre, o, temperature):
    if o["metric"] == "cosine":
        return (v * centre).sum() / (centre * centre).sum().sqrt().clamp_min(1e-12) / temperature
    return -((v - centre) ** 2).sum() / temperature


def logits(support, query, params, o):
    prototypes = adapt([sum(mean_of(shot, params) for shot in shots) / len(shots) for shots in support], params)
    rows = []
    for asked in query:
        v = mean_of(asked, params)
        rows.append(torch.stack([score(v, p, o, o["temperature"]) for p in prototypes]))
    return torch.stack(rows)


def loss(support, query, labels, ids, params, o):
    found = logits(support, query, params, o)
    total = -sum(row.log_softmax(0)[label] for row, label in zip(found, labels, strict=True)) / len(labels)
    if not o["balance"]:
        return total
    sets = []
    for n, shots in enumerate(support):
        asked = [cube for cube, label in zip(query, labels, strict=True) if label == n]
        sets.append([mean_of(cube, params) for cube in (*shots, *asked)])
    centres = [sum(adapt(members, params)) / len(members) for members in sets]
    terms = []
    for n, members in enumerate(sets):
        for v in members:
            scores = torch.stack([score(v, c, o, o["reg_temperature"]) for c in centres])
            terms.append(-scores.log_softmax(0)[n])
    return total + o["balance"] * sum(terms) / len(terms)
