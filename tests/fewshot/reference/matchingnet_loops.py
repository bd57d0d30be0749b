"""Matching networks written out, LSTM gates and all: one query, one support, one step at a time."""

import torch


def mean_of(cube):
    return torch.stack([channel.sum() / channel.numel() for channel in cube])


def lstm_step(x, hidden, memory, w_in, w_hidden, b_in, b_hidden):
    """Gates in PyTorch's order: input, forget, cell, output."""
    i, f, g, o = (w_in @ x + b_in + w_hidden @ hidden + b_hidden).chunk(4)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


def walk(sequence, params, suffix):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [params[f"context.{name}_l0{suffix}"] for name in names]
    hidden = memory = torch.zeros_like(sequence[0])
    found = []
    for x in sequence:
        hidden, memory = lstm_step(x, hidden, memory, *weights)
        found.append(hidden)
    return found


def unit(v):
    return v / ((v * v).sum().sqrt() + 1e-5)


def logits(support, query, params, o):
    supports = [(n, mean_of(shot)) for n, shots in enumerate(support) for shot in shots]
    known = [v for _, v in supports]
    asked = [mean_of(cube) for cube in query]
    if o["variant"] == "fce":
        known = [params["project.weight"] @ v for v in known]
        asked = [params["project.weight"] @ v for v in asked]
        there, back = walk(known, params, ""), walk(known[::-1], params, "_reverse")[::-1]
        known = [v + a + b for v, a, b in zip(known, there, back, strict=True)]
        cell = [params[f"cell.{name}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        read = []
        for f in asked:
            hidden, memory = f, torch.zeros_like(f)
            for _ in known:
                shares = torch.stack([(hidden * g).sum() for g in known]).softmax(0)
                r = sum(share * g for share, g in zip(shares, known, strict=True))
                hidden, memory = lstm_step(torch.cat([f, r]), hidden, memory, *cell)
                hidden = hidden + f
            read.append(hidden)
        asked = read
    rows = []
    for f in asked:
        alike = torch.stack([(unit(f) * unit(g)).sum().clamp_min(0) for g in known])
        shares = (o["beta"] * alike).softmax(0)
        row = [
            sum(share for share, (n, _) in zip(shares, supports, strict=True) if n == way)
            for way in range(len(support))
        ]
        rows.append(torch.stack([torch.log(mass + 1e-6) for mass in row]))
    return torch.stack(rows)


def loss(support, query, labels, ids, params, o):
    found = logits(support, query, params, o)
    return -sum(row[label] for row, label in zip(found, labels, strict=True)) / len(labels)
