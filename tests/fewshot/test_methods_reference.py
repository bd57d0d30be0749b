"""Every method but MASTAF, which has tests of its own, against the slow loops over its equations."""

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.registry import load_method

pytestmark = pytest.mark.usefixtures("one_thread")

REFERENCES = Path(__file__).parent / "reference"
CLASSES = 6
# Keywords with which a method is compared; the first are those of its other tests too.
KEYWORDS = {
    "tsnpp": [{"scale": 3.0}, {"proto": "mean"}],
    "protonet": [{"temperature": 2.0}],
    "matchingnet": [{"beta": 5.0}, {"variant": "fce", "width": 5, "beta": 5.0}],
    "otam": [{"lam": 0.5}, {"lam": 0.1}],
    "trx": [
        {"width": 7, "dropout": 0.0},
        {"cardinalities": [1, 2, 4], "width": 5, "dropout": 0.0},
        {"cardinalities": [2], "width": 40, "dropout": 0.0},  # few tuples beside the width: by inner products
        {"tokens": "space", "width": 5, "dropout": 0.0},
    ],
    "baseline": [{"epochs": 5, "support_lr": 0.5}, {"epochs": 3, "mini_batch": 2}],
    "baselinepp": [{"epochs": 5, "support_lr": 0.5}, {"epochs": 3, "mini_batch": 2}],
    "feat": [
        {"attention_dropout": 0.0, "dropout": 0.0, "temperature": 4.0, "balance": 0.3},
        {"attention_dropout": 0.0, "dropout": 0.0, "metric": "cosine", "balance": 0.3},
        {"attention_dropout": 0.0, "dropout": 0.0, "temperature": 4.0, "balance": 0},
    ],
    "pal": [{}, {"contrast": "exp"}],
    "cmn": [
        {"saliencies": 3, "key_size": 4},
        {"saliencies": 2, "key_size": 4, "sequence": "space"},
        {"variant": "memory", "saliencies": 2, "key_size": 6},
    ],
    "protogan": [
        {"prototype_size": 4, "encoder_hidden": 5, "hidden": 6, "n_synthetic": 3, "support_steps": 7},
        {"prototype_size": 4, "encoder_hidden": 5, "hidden": 6, "n_synthetic": 0, "support_steps": 7},
    ],
    "hyrsm": [{}, {"variant": "relation", "scale": 3.0}],
    "chamferpp": [{}, {"length": 2, "scale": 3.0}],
    "simpleshot": [{}, {"transform": "l2"}, {"transform": "none"}],
    "probe": [{"steps": 9}, {"strength": 5.0, "steps": 9}],
    "can": [{"reduction": 2}, {"reduce": "sum", "scale": 1.0, "tau": 0.5}],
    "arn": [{"channels": 16, "width": 3}],
    "cmn_j": [{"saliencies": 3, "key_size": 4}, {"saliencies": 2, "key_size": 4, "objective": "hinge"}],
}
CASES = [
    pytest.param(name, keywords, id=f"{name}{number}")
    for name in METHODS
    if name != "mastaf"
    for number, keywords in enumerate(KEYWORDS.get(name, [{}]))
]


def loops_of(name):
    """Import reference/NAME_loops.py, which every method must have."""
    spec = importlib.util.spec_from_file_location(f"mastaf_reference_{name}", REFERENCES / f"{name}_loops.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name, keywords, cube, seed):
    """The method with every number random, buffers too, in float64."""
    method = load_method(name).build(cube_shape=cube, n_train_classes=CLASSES, **keywords).double()
    rng = torch.Generator().manual_seed(seed)
    for key, value in method.state_dict().items():
        if not value.is_floating_point():
            continue
        positive = "var" in key or key.endswith(("norm.weight", "length", "gains"))
        drawn = torch.rand(value.shape, generator=rng) if positive else torch.randn(value.shape, generator=rng)
        value.copy_(drawn * 0.4 + (0.5 if positive else 0))
    return method


def draw(method, *, b, way, shot, cube, seed, signed):
    """Episodes with two queries of each class, in any order."""
    rng = torch.Generator().manual_seed(seed)
    sample = torch.randn if signed else torch.rand
    labels = torch.stack([torch.randperm(2 * way, generator=rng) % way for _ in range(b)])  # [b, q]
    support = sample(b, way, shot, *cube, generator=rng, dtype=torch.float64)
    query = sample(b, 2 * way, *cube, generator=rng, dtype=torch.float64)
    ids = torch.stack([torch.randperm(CLASSES, generator=rng)[:way] for _ in range(b)])
    return Episode(support, query, labels, ids)


shapes = st.fixed_dictionaries(
    {
        "way": st.integers(1, 3),
        "shot": st.integers(1, 3),
        "cube": st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 2), st.integers(1, 2)),
        "signed": st.booleans(),
        "seed": st.integers(0, 2**16),
    }
)
few = settings(max_examples=4, deadline=None, derandomize=True)


@pytest.mark.parametrize(("name", "keywords"), CASES)
@few
@given(shape=shapes)
def test_scores_are_those_of_the_loops(name, keywords, shape):
    loops = loops_of(name)
    method = build(name, keywords, shape["cube"], shape["seed"]).eval()
    episode = draw(method, b=2, **shape)
    random, draws = EpisodeRandom(seed=1, first=3), "rng" in inspect.signature(loops.logits).parameters
    with torch.no_grad():
        found = method.score(episode, random)  # [b, q, way]
        slow = [
            loops.logits(
                support, query, dict(method.state_dict()), method.describe(), **({"rng": random.of(i)} if draws else {})
            )
            for i, (support, query) in enumerate(zip(episode.support, episode.query, strict=True))
        ]
    torch.testing.assert_close(found, torch.stack(slow), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "keywords"), CASES)
@few
@given(shape=shapes)
def test_losses_and_gradients_are_those_of_the_loops(name, keywords, shape):
    loops = loops_of(name)
    method = build(name, keywords, shape["cube"], shape["seed"]).train()
    episode = draw(method, b=2, **shape)
    inputs = [episode.support.requires_grad_(True), episode.query.requires_grad_(True)]
    options, params = method.describe(), dict(method.state_dict(keep_vars=True))
    slow = []
    for support, query, labels, ids in zip(*inputs, episode.labels, episode.class_ids, strict=True):
        if hasattr(loops, "loss"):
            slow.append(loops.loss(support, query, labels.tolist(), ids.tolist(), params, options))
        else:
            rows = loops.logits(support, query, params, options)
            slow.append(sum(-row.log_softmax(0)[y] for row, y in zip(rows, labels.tolist(), strict=True)) / len(labels))
    mean = sum(slow) / len(slow)
    learnt = [*inputs, *(p for p in method.parameters() if p.requires_grad)]
    wanted = torch.autograd.grad(mean, learnt, allow_unused=True)
    fast = method.loss(episode)
    found = torch.autograd.grad(fast, learnt, allow_unused=True)
    torch.testing.assert_close(fast, mean, rtol=1e-8, atol=1e-8)
    for a, b in zip(found, wanted, strict=True):
        a, b = (torch.zeros(()) if part is None else part for part in (a, b))
        torch.testing.assert_close(a, b.expand_as(a) if b.dim() == 0 else b, rtol=1e-6, atol=1e-8)
