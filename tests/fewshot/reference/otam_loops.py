"""OTAM written out with exp and log: one cell of one pair of sequences at a time."""

import torch


def frames(cube):
    c, t, h, w = cube.shape
    return [cube[:, i].reshape(c, -1).sum(1) / (h * w) for i in range(t)]


def softmin(values, lam):
    return -lam * torch.log(sum(torch.exp(-value / lam) for value in values))


def path_cost(distance, lam):
    """One direction; distance: rows of columns."""
    rows, columns = len(distance), len(distance[0])
    zero = distance[0][0] * 0
    padded = [[zero, *row, zero] for row in distance]
    gamma = [[zero] * (columns + 2) for _ in range(rows)]
    for m in range(1, columns + 2):
        gamma[0][m] = padded[0][m] + gamma[0][m - 1]
    for row in range(1, rows):
        for m in range(1, columns + 2):
            before = [gamma[row - 1][m - 1], gamma[row][m - 1]]
            if m in (1, columns + 1):
                before.append(gamma[row - 1][m])
            gamma[row][m] = padded[row][m] + softmin(before, lam)
    return gamma[rows - 1][columns + 1]


def distances(one, other):
    table = []
    for u in one:
        table.append([1 - (u * v).sum() / ((u * u).sum().sqrt() * (v * v).sum().sqrt() + 0.01) for v in other])
    return table


def logits(support, query, params, o):
    rows = []
    for asked in query:
        row = []
        for shots in support:
            costs = []
            for shot in shots:
                table = distances(frames(asked), frames(shot))
                turned = [list(column) for column in zip(*table, strict=True)]
                costs.append(path_cost(table, o["lam"]) + path_cost(turned, o["lam"]))
            row.append(-sum(costs) / len(costs))
        rows.append(torch.stack(row))
    return torch.stack(rows)
