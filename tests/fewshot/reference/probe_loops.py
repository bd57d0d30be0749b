"""The linear probe with explicit weights: Nesterov's method on a gradient summed video by video."""

import torch


def read(cube):
    v = torch.stack([channel.sum() / channel.numel() for channel in cube])
    return v / (v * v).sum().sqrt().clamp_min(1e-12)


def logits(support, query, params, o):
    videos = [(read(shot), n) for n, shots in enumerate(support) for shot in shots]
    way, c = len(support), len(videos[0][0])
    now = last = torch.zeros(way, c + 1, dtype=support.dtype)  # weights, and the bias as a last column
    step = 1 / (len(videos) + 1 / o["strength"])
    for number in range(o["steps"]):
        ahead = now + number / (number + 3) * (now - last)
        slope = torch.cat([ahead[:, :-1] / o["strength"], torch.zeros(way, 1, dtype=support.dtype)], dim=1)
        for x, n in videos:
            wrong = (ahead[:, :-1] @ x + ahead[:, -1]).softmax(0)
            wrong = torch.stack([p - float(k == n) for k, p in enumerate(wrong)])
            slope = slope + torch.outer(wrong, torch.cat([x, torch.ones(1, dtype=support.dtype)]))
        now, last = ahead - step * slope, now
    return torch.stack([now[:, :-1] @ read(asked) + now[:, -1] for asked in query])
