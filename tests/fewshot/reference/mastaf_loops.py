"""MASTAF written out slowly: one episode, one query, one class, one position at a time, re-weighted cubes and all.

Equations (2) to (13) of Liu et al., WACV 2023, and the authors' choices, from words alone; nothing is shared with the
package. Options are a plain dict of the names that `MASTAF.describe()` gives. `params` holds the meta-learner (W1, b1,
W2, b2, gamma, beta), the running statistics (mean, var; changed in place) and the global classifier (W, b).
"""

import torch


def norm(vector):
    return (vector * vector).sum().sqrt()


def cosine(u, v):
    return (u * v).sum() / (norm(u).clamp_min(1e-12) * norm(v).clamp_min(1e-12))


def unit_columns(matrix):
    return torch.stack([column / norm(column).clamp_min(1e-12) for column in matrix.T], dim=1)


def relation(own, other, o):
    """M[i, j] between position i of `own` and j of `other`, both [c, L]."""
    if o["normalize_maps"]:
        own, other = unit_columns(own), unit_columns(other)
    return torch.stack([other.T @ position for position in own.T])


def normalise_calls(hidden, mode, params):
    """Batch normalisation of the vectors of one call; mode: none, batch (and move the running values), running."""
    if mode == "none":
        return hidden
    if mode == "batch":
        n = len(hidden)
        mean = sum(hidden) / n
        var = sum((h - mean) ** 2 for h in hidden) / n
        params["mean"] = 0.9 * params["mean"] + 0.1 * mean.detach()
        params["var"] = 0.9 * params["var"] + 0.1 * var.detach() * n / (n - 1)
    else:
        mean, var = params["mean"], params["var"]
    return [(h - mean) / (var + 1e-5).sqrt() * params["gamma"] + params["beta"] for h in hidden]


def attend(maps, mode, params, o):
    """A of each map [L own, L other] in one call of the meta-learner: a list of [L]."""
    if not o["meta_learner"]:
        fused = [torch.stack([row.mean() for row in M]) for M in maps]
        return [torch.softmax(a / o["tau"], dim=0) for a in fused]
    hidden = [params["W1"] @ (sum(M) / len(M)) + params["b1"] for M in maps]
    hidden = normalise_calls(hidden, mode, params)
    attention = []
    for M, h in zip(maps, hidden, strict=True):
        d = params["W2"] @ torch.clamp(h, min=0) + params["b2"]
        a = torch.stack([(d * row).sum() for row in M])
        if o["reduce"] == "mean":
            a = a / len(d)
        e = torch.exp((a - a.max()) / o["tau"])
        attention.append(e / e.sum())
    return attention


def attended(cube, A, o):
    """[c, L] re-weighted by 1 + A, or by A."""
    weights = (1 + A) if o["residual"] else A
    return torch.stack([column * w for column, w in zip(cube.T, weights, strict=True)], dim=1)


def run_attention(classes, queries, params, o, training):
    """All four attentions of one episode: class_self [n], query_self [q], class_cross and query_cross [q][n]."""
    way, q = len(classes), len(queries)

    def mode(first_axis):
        if o["meta_norm"] == "none" or first_axis == 1:
            return "none"
        return "batch" if training else "running"

    out = {}
    if o["variant"] in ("self", "full"):
        out["class_self"] = attend([relation(P, P, o) for P in classes], mode(way), params, o)
        several = mode(q if o["query_self_norm"] == "authors" else 1)
        out["query_self"] = attend([relation(R, R, o) for R in queries], several, params, o)
    if o["variant"] in ("cross", "full"):
        pairs = [(P, R) for R in queries for P in classes]
        of_class = attend([relation(P, R, o) for P, R in pairs], mode(way), params, o)
        of_query = attend([relation(R, P, o) for P, R in pairs], mode(way), params, o)
        out["class_cross"] = [of_class[i * way : (i + 1) * way] for i in range(q)]
        out["query_cross"] = [of_query[i * way : (i + 1) * way] for i in range(q)]
    return out


def represent(classes, queries, attention, o):
    """Pairs (query cube, class cube) [q][n] of each branch of the variant."""
    q, way = len(queries), len(classes)
    if o["variant"] == "neighbor":
        return {"plain": [[(queries[i], classes[n]) for n in range(way)] for i in range(q)]}
    branches = {}
    if "class_self" in attention:
        of_class = [attended(classes[n], attention["class_self"][n], o) for n in range(way)]
        of_query = [attended(queries[i], attention["query_self"][i], o) for i in range(q)]
        branches["self"] = [[(of_query[i], of_class[n]) for n in range(way)] for i in range(q)]
    if "class_cross" in attention:
        branches["cross"] = [
            [
                (
                    attended(queries[i], attention["query_cross"][i][n], o),
                    attended(classes[n], attention["class_cross"][i][n], o),
                )
                for n in range(way)
            ]
            for i in range(q)
        ]
    return branches


def scores(pair, metric):
    """List of cosines of one pair: one, or one a query position."""
    query, klass = pair
    if metric == "flat":
        return [cosine(query.reshape(-1), klass.reshape(-1))]
    if metric == "pool":
        return [cosine(query.mean(1), klass.mean(1))]
    return [cosine(query[:, p], klass.mean(1)) for p in range(query.shape[1])]


def fused(branches, metric, o, queries):
    """For each query [way, p]: log probabilities (fusion prob) or logits."""
    if metric == "dense" and not o["residual"]:
        # A weight does not turn a position, but A alone may underflow to 0 and leave no direction to compare.
        branches = {
            name: [[(plain, klass) for _, klass in row] for plain, row in zip(queries, pairs, strict=True)]
            for name, pairs in branches.items()
        }
    tables = {
        name: [torch.stack([torch.stack(scores(pair, metric)) for pair in row]) * o["scale"] for row in pairs]
        for name, pairs in branches.items()
    }  # name -> [q] of [way, p]
    if len(tables) == 1:
        table = next(iter(tables.values()))
        return [torch.softmax(row, 0).log() for row in table] if o["fusion"] == "prob" else table
    both = zip(tables["cross"], tables["self"], strict=True)
    if o["fusion"] == "logit":
        return [cross + o["alpha"] * own for cross, own in both]
    mean = [(torch.softmax(c, 0) + o["alpha"] * torch.softmax(s, 0)) / (1 + o["alpha"]) for c, s in both]
    return [p.log() for p in mean]


def split(support, query):
    classes = [sum(shot.flatten(1) for shot in way) / len(way) for way in support]
    return classes, [R.flatten(1) for R in query]


def logits(support, query, params, o, training=False):
    """Logits [q, way] of one episode; support [way, shot, c, t, h, w], query [q, c, t, h, w]."""
    classes, queries = split(support, query)
    attention = run_attention(classes, queries, params, o, training)
    table = fused(represent(classes, queries, attention, o), o["test_metric"], o, queries)
    return torch.stack([row[:, 0] for row in table])


def global_terms(classes, queries, attention, params, o, labels, class_ids):
    branch = represent(classes, queries, attention, o)
    pairs = branch.get("cross", branch.get("self", branch.get("plain")))
    terms = []
    for i, label in enumerate(labels):
        if o["global_input"] == "query_true":
            cube = pairs[i][label][0]
            for position in cube.T:
                z = params["W"] @ position + params["b"]
                terms.append(-torch.log_softmax(z, 0)[class_ids[label]])
        else:
            for n, (_, cube) in enumerate(pairs[i]):
                z = params["W"] @ cube.mean(1) + params["b"]
                terms.append(-torch.log_softmax(z, 0)[class_ids[n]])
    return terms


def loss(support, query, labels, class_ids, params, o, training=True):
    """The training loss of one episode; labels and class_ids are lists of int."""
    classes, queries = split(support, query)
    attention = run_attention(classes, queries, params, o, training)
    table = fused(represent(classes, queries, attention, o), o["train_metric"], o, queries)
    terms = [
        -torch.log_softmax(row[:, p], 0)[label]
        for row, label in zip(table, labels, strict=True)
        for p in range(row.shape[1])
    ]
    total = sum(terms) / len(terms)
    if o["global_weight"] > 0 and o["n_train_classes"] > 0:
        others = global_terms(classes, queries, attention, params, o, labels, class_ids)
        total = total + o["global_weight"] * sum(others) / len(others)
    return o["loss_scale"] * total
