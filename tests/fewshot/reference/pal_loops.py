"""PAL written out: one asking vector at a time."""

import math

import torch


def mean_of(cube):
    return torch.stack([channel.sum() / channel.numel() for channel in cube])


def attend(x, members, params):
    c = len(x)
    weight, bias = params["attention_module.in_proj_weight"], params["attention_module.in_proj_bias"]

    def part(number, v):
        return weight[number * c : (number + 1) * c] @ v + bias[number * c : (number + 1) * c]

    shares = torch.stack([(part(0, x) * part(1, y)).sum() / math.sqrt(c) for y in members]).softmax(0)
    read = sum(a * part(2, y) for a, y in zip(shares, members, strict=True))
    return params["attention_module.out_proj.weight"] @ read + params["attention_module.out_proj.bias"]


def logits(support, query, params, o):
    known = [mean_of(shot) for shots in support for shot in shots]
    known = [x + attend(x, known, params) for x in known]
    shot = support.shape[1]
    prototypes = [sum(known[n * shot : (n + 1) * shot]) / shot for n in range(len(support))]
    rows = []
    for asked in query:
        v = mean_of(asked)
        v = v + attend(v, known, params)
        rows.append(
            torch.stack([(v * p).sum() / ((v * v).sum().sqrt() * (p * p).sum().sqrt() + 0.01) for p in prototypes])
        )
    return torch.stack(rows)


def loss(support, query, labels, ids, params, o):
    found = logits(support, query, params, o)
    total = -sum(row.log_softmax(0)[label] for row, label in zip(found, labels, strict=True)) / len(labels)
    terms = []
    for n in range(len(support)):
        if o["contrast"] == "sigmoid":
            weights, eps = [torch.sigmoid(row[n]) for row in found], 0.1
        else:
            weights, eps = [torch.exp(row[n] / o["temperature"]) for row in found], 0.0
        own = sum(weight for weight, label in zip(weights, labels, strict=True) if label == n)
        terms.append(-torch.log(own / (sum(weights) + eps)))
    return total + sum(terms) / len(terms)
