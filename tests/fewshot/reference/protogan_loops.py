"""ProtoGAN's test episode as one would write it: nn.Linear and torch's Adam, the loss summed video by video."""

import numpy as np
import torch


def mean_of(cube, params):
    return torch.stack([channel.sum() / channel.numel() for channel in cube]) / params["length"]


def network(x, params, name):
    hidden = params[f"{name}.0.weight"] @ x + params[f"{name}.0.bias"]
    hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    return params[f"{name}.2.weight"] @ hidden + params[f"{name}.2.bias"]


def logits(support, query, params, o, rng):
    way, m = len(support), o["n_synthetic"]
    noise = torch.from_numpy(rng.standard_normal((way, m, o["prototype_size"]), dtype=np.float32)).double()
    videos = []
    for n, shots in enumerate(support):
        real = [mean_of(shot, params) for shot in shots]
        prototype = sum(network(x, params, "encoder") for x in real) / len(real)
        videos += [(x, n, (0.5 if m else 1.0) / len(real)) for x in real]
        for z in noise[n]:
            made = network(torch.cat([z, prototype]), params, "generator")
            videos.append((made if bool(params["signed"]) else made.clamp_min(0), n, 0.5 / m))
    layer = torch.nn.Linear(len(videos[0][0]), way).double()
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(layer.parameters(), lr=0.001)
    with torch.enable_grad():
        for _ in range(o["support_steps"]):
            adam.zero_grad()
            total = sum(-share * layer(x).log_softmax(0)[n] for x, n, share in videos) / way
            total.backward()
            adam.step()
    return torch.stack([layer(mean_of(asked, params)) for asked in query]).detach()


def loss(support, query, labels, ids, params, o):
    terms = []
    prototypes = [
        sum(network(mean_of(shot, params), params, "encoder") for shot in shots) / len(shots) for shots in support
    ]
    for asked, label in zip(query, labels, strict=True):
        z = network(mean_of(asked, params), params, "encoder")
        scores = torch.stack([-((z - p) ** 2).sum() / o["temperature"] for p in prototypes])
        terms.append(-scores.log_softmax(0)[label])
    return sum(terms) / len(terms)
