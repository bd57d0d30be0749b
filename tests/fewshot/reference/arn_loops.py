"""ARN with torch's own layers: one episode at a time, its videos one after the other where nothing normalises."""

import torch
from torch.nn import functional as F


def block(values, params, name, o):
    """relu(batch_norm(conv)) of a list of maps; o["train"]: by their own statistics."""
    weight, bias = params[f"{name}.conv.weight"], params[f"{name}.conv.bias"]
    conv = F.conv3d if weight.dim() == 5 else F.conv2d
    found = torch.stack([conv(v[None], weight, bias, padding=weight.shape[-1] // 2)[0] for v in values])
    norm = {key: params[f"{name}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
    mean, var = norm.pop("running_mean").clone(), norm.pop("running_var").clone()
    return F.batch_norm(found, mean, var, training=o["train"], **norm).clamp_min(0)


def descriptors(cubes, params, o):
    x = block(cubes, params, "project", o)
    seen = block(block(x, params, "detect.0", o), params, "detect.1", o)
    found = []
    for cube, maps in zip(x, seen, strict=True):
        attention = F.conv3d(maps[None], params["locate.weight"], params["locate.bias"])[0, 0].amax(0)  # [h, w]
        cube = cube * (1 + torch.sigmoid(attention))
        columns = cube.reshape(len(cube), -1)
        second = sum(torch.outer(column, column) for column in columns.T) / columns.shape[1]
        found.append(2 * torch.sigmoid(o["sigma"] * second / second.trace().clamp_min(1e-12)) - 1)
    return found


def logits(support, query, params, o):
    o = {"train": False, **o}
    way, shot = support.shape[:2]
    found = descriptors([*support.flatten(0, 1), *query], params, o)
    classes = [sum(found[n * shot : (n + 1) * shot]) / shot for n in range(way)]
    values = [torch.stack([of_class, asked]) for asked in found[way * shot :] for of_class in classes]
    for number in range(4):
        moved = block(values, params, f"compare.{number}", o)
        summed = moved if number == 0 else [v + m for v, m in zip(values, moved, strict=True)]
        values = [F.max_pool2d(v[None], 2)[0] for v in summed]
    relations = []
    for v in values:
        hidden = (params["hidden.weight"] @ v.flatten() + params["hidden.bias"]).clamp_min(0)
        relations.append(torch.sigmoid(params["relate.weight"] @ hidden + params["relate.bias"]))
    return torch.stack(relations).view(len(query), way)


def loss(support, query, labels, ids, params, o):
    found = logits(support, query, params, {"train": True, **o})
    terms = [(r - float(n == label)) ** 2 for row, label in zip(found, labels, strict=True) for n, r in enumerate(row)]
    return sum(terms) / len(terms)
