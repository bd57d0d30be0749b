"""HyRSM written out: one query, one class, one frame at a time."""

import math

import torch


def frames(cube):
    c, t, h, w = cube.shape
    return [cube[:, i].reshape(c, -1).sum(1) / (h * w) for i in range(t)]


def related(sequence, params):
    c = len(sequence[0])
    weight, bias = params["within.in_proj_weight"], params["within.in_proj_bias"]
    q, k, v = ([weight[i * c : (i + 1) * c] @ x + bias[i * c : (i + 1) * c] for x in sequence] for i in range(3))
    found = []
    for x, asking in zip(sequence, q, strict=True):
        shares = torch.stack([(asking * key).sum() / math.sqrt(c) for key in k]).softmax(0)
        read = sum(a * value for a, value in zip(shares, v, strict=True))
        found.append(x + params["within.out_proj.weight"] @ read + params["within.out_proj.bias"])
    return found


def distance(u, v):
    return 1 - (u * v).sum() / ((u * u).sum().sqrt() * (v * v).sum().sqrt())


def logits(support, query, params, o):
    def read(cube):
        return related(frames(cube), params) if o["variant"] == "relation" else frames(cube)

    rows = []
    for asked in query:
        mine, row = read(asked), []
        for shots in support:
            of_shots = [read(shot) for shot in shots]
            known = [sum(sequence[i] for sequence in of_shots) / len(of_shots) for i in range(len(mine))]
            there = sum(min(distance(u, v) for v in known) for u in mine) / len(mine)
            back = sum(min(distance(u, v) for u in mine) for v in known) / len(known)
            row.append(-o["scale"] * (there + back))
        rows.append(torch.stack(row))
    return torch.stack(rows)
