"""MASTAF against the slow loops over its equations, and the properties that the equations imply."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods.mastaf import MASTAF

pytestmark = pytest.mark.usefixtures("one_thread")

CUBE = (8, 2, 3, 1)
VARIANTS = ("full", "self", "cross", "neighbor")


def build(cube=CUBE, z=7, *, seed=0, dtype=torch.float64, **keywords):
    """A MASTAF with every number random, running statistics and biases too."""
    method = MASTAF.build(cube_shape=cube, n_train_classes=z, **keywords)
    rng = torch.Generator().manual_seed(seed)
    for name, value in method.state_dict().items():
        drawn = torch.rand(value.shape, generator=rng) if "var" in name else torch.randn(value.shape, generator=rng)
        value.copy_(drawn * 0.5 + (0.5 if "var" in name or "norm.weight" in name else 0))
    return method.to(dtype)


NAMES = {
    "meta.first.weight": "W1",
    "meta.first.bias": "b1",
    "meta.second.weight": "W2",
    "meta.second.bias": "b2",
    "meta.norm.weight": "gamma",
    "meta.norm.bias": "beta",
    "meta.norm.running_mean": "mean",
    "meta.norm.running_var": "var",
    "classifier.weight": "W",
    "classifier.bias": "b",
}


def parameters_of(method):
    """The slow version's own copies, in float64, with gradients where the method has them."""
    learnt = dict(method.named_parameters())
    copies = {NAMES[key]: value.detach().double().clone() for key, value in method.state_dict().items()}
    for key in learnt:
        copies[NAMES[key]].requires_grad_(True)
    return copies


def slow_logits(loops, method, episode):
    params, options = parameters_of(method), method.describe()
    pairs = zip(episode.support.double(), episode.query.double(), strict=True)
    with torch.no_grad():
        return torch.stack([loops.logits(s, q, params, options, method.training) for s, q in pairs]), params


def slow_loss(loops, method, episode, params):
    """Mean over episodes, run one after the other; running statistics in `params` move."""
    options = method.describe()
    each = [
        loops.loss(s, q, y.tolist(), ids.tolist(), params, options, method.training)
        for s, q, y, ids in zip(episode.support, episode.query, episode.labels, episode.class_ids, strict=True)
    ]
    return sum(each) / len(each)


def close(got, expected, tolerance):
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


shapes = st.fixed_dictionaries(
    {
        "b": st.integers(1, 3),
        "way": st.integers(1, 6),
        "shot": st.integers(1, 5),
        "q": st.integers(1, 7),
        "cube": st.tuples(st.integers(2, 9), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)),
        "seed": st.integers(0, 1000),
        "signed": st.booleans(),
    }
)
options = st.fixed_dictionaries(
    {
        "preset": st.sampled_from(("code", "paper")),
        "variant": st.sampled_from(VARIANTS),
        "meta_learner": st.booleans(),
        "residual": st.booleans(),
    },
    optional={
        "meta_norm": st.sampled_from(("none", "bn")),
        "query_self_norm": st.sampled_from(("skip", "authors")),
        "reduce": st.sampled_from(("sum", "mean")),
        "fusion": st.sampled_from(("prob", "logit")),
        "train_metric": st.sampled_from(("dense", "pool", "flat")),
        "test_metric": st.sampled_from(("pool", "flat")),
        "global_input": st.sampled_from(("query_true", "support")),
        "normalize_maps": st.booleans(),
        "alpha": st.sampled_from((0, 0.5, 1, 3.0)),
        "tau": st.sampled_from((0.025, 0.5)),
        "bottleneck": st.integers(1, 8),
        "global_weight": st.sampled_from((0, 0.3)),
    },
)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, option=options, training=st.booleans())
def test_logits_equal_the_slow_loops(mastaf_loops, random_episode, shape, option, training):
    episode = random_episode(**shape)
    method = build(shape["cube"], **option).train(training)
    expected, params = slow_logits(mastaf_loops, method, episode)
    close(method(episode).detach(), expected, 1e-9)
    if "meta.norm.running_mean" in method.state_dict():
        close(method.get_buffer("meta.norm.running_mean"), params["mean"], 1e-12)
        close(method.get_buffer("meta.norm.running_var"), params["var"], 1e-12)


@settings(max_examples=30, deadline=None)
@given(shape=shapes, option=options, training=st.booleans())
def test_loss_and_gradients_equal_the_slow_loops(mastaf_loops, random_episode, shape, option, training):
    episode = random_episode(**shape)
    slow = Episode(*(part.clone() for part in (episode.support, episode.query, episode.labels, episode.class_ids)))
    method = build(shape["cube"], **option).train(training)
    params = parameters_of(method)
    for part in (episode, slow):
        part.support.requires_grad_(True)
        part.query.requires_grad_(True)
    loss, expected = method.loss(episode), slow_loss(mastaf_loops, method, slow, params)
    assert loss.shape == ()
    close(loss, expected, 1e-9)
    loss.backward()
    expected.backward()
    pairs = [(episode.support.grad, slow.support.grad), (episode.query.grad, slow.query.grad)]
    pairs += [(value.grad, params[NAMES[name]].grad) for name, value in method.named_parameters()]
    for got, wanted in pairs:
        got, wanted = (torch.zeros(1) if part is None else part.double() for part in (got, wanted))
        size = max(float(wanted.abs().max()), 1.0)
        assert float((got - wanted).abs().max()) <= 1e-8 * size


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("metric", ["pool", "flat"])
def test_float32_is_enough_for_the_code_preset(mastaf_loops, random_episode, variant, metric):
    episode = random_episode(b=2, way=5, shot=3, q=2, cube=(64, 2, 3, 3), dtype=torch.float32)
    method = build((64, 2, 3, 3), variant=variant, test_metric=metric, dtype=torch.float32).eval()
    expected, _ = slow_logits(mastaf_loops, method, episode)
    got = method(episode)
    assert got.dtype == torch.float32
    close(got.detach().double(), expected, 1e-5)


@pytest.mark.parametrize("rule", ["skip", "authors"])
@pytest.mark.parametrize("q", [1, 3])
def test_running_statistics_are_those_of_episodes_in_turn(mastaf_loops, random_episode, rule, q):
    episode = random_episode(b=5, way=4, q=q, dtype=torch.float32)
    method = build(query_self_norm=rule, dtype=torch.float32)
    params = parameters_of(method)
    wide = episode.to("cpu", torch.float64)
    slow_loss(mastaf_loops, method, wide, params)
    method.loss(episode)
    close(method.get_buffer("meta.norm.running_mean").double(), params["mean"], 2e-7)
    close(method.get_buffer("meta.norm.running_var").double(), params["var"], 2e-7)


def test_one_batch_and_its_episodes_in_turn_leave_the_same_statistics(random_episode):
    episode = random_episode(b=4, q=3)
    batched, single = build(), build()
    batched.loss(episode)
    for i in range(4):
        single.loss(one(episode, i))
    for name, value in batched.state_dict().items():
        close(value, single.state_dict()[name], 1e-12)


def one(episode, i):
    part = slice(i, i + 1)
    return Episode(episode.support[part], episode.query[part], episode.labels[part], episode.class_ids[part])


def test_which_rule_lets_queries_see_each_other(random_episode):
    episode = random_episode(b=2, q=3)
    alone = Episode(episode.support, episode.query[:, :1], episode.labels[:, :1], episode.class_ids)
    for rule, equal in (("skip", True), ("authors", False)):
        method = build(query_self_norm=rule).eval()
        difference = float((method(episode)[:, :1] - method(alone)).detach().abs().max())
        assert (difference < 1e-12) == equal


@pytest.mark.parametrize("preset", ["code", "paper"])
@pytest.mark.parametrize("metric", ["pool", "flat"])
def test_a_silent_kernel_makes_every_branch_neighbor(random_episode, preset, metric):
    episode = random_episode(signed=True)
    plain = build(variant="neighbor", preset=preset, test_metric=metric).eval()(episode)
    for variant in ("self", "cross", "full"):
        method = build(variant=variant, preset=preset, test_metric=metric).eval()
        method.meta.second.weight.data.zero_()
        method.meta.second.bias.data.zero_()
        got = method(episode)
        close(got, 2 * plain if (variant, preset) == ("full", "code") else plain, 1e-12)
        for attention in method.attention(episode).values():
            close(attention, torch.full_like(attention, 1 / 6), 1e-12)


@pytest.mark.parametrize("preset", ["code", "paper"])
def test_attention_sums_to_one_and_has_the_shape_of_the_cube(random_episode, preset):
    episode = random_episode(b=2, way=3, q=4)
    method = build(preset=preset)
    before = copy.deepcopy(method.state_dict())
    maps = method.attention(episode)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "class_self": (2, 3, 2, 3, 1),
        "query_self": (2, 4, 2, 3, 1),
        "class_cross": (2, 4, 3, 2, 3, 1),
        "query_cross": (2, 4, 3, 2, 3, 1),
    }
    for value in maps.values():
        close(value.flatten(-3).sum(-1), torch.ones(value.shape[:-3], dtype=torch.float64), 1e-12)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_attention_of_a_variant_is_what_it_scores_with(random_episode, variant):
    expected = {"full": 4, "self": 2, "cross": 2, "neighbor": 0}
    assert len(build(variant=variant).attention(random_episode())) == expected[variant]


def test_positions_may_be_renamed_everywhere_at_once_but_not_in_cubes_alone(random_episode):
    episode = random_episode()
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    moved = Episode(permuted(episode.support, order), permuted(episode.query, order), episode.labels, episode.class_ids)
    method = build(tau=0.3).eval()
    renamed = copy.deepcopy(method)
    renamed.meta.first.weight.data = method.meta.first.weight.data[:, order]
    renamed.meta.second.weight.data = method.meta.second.weight.data[order]
    renamed.meta.second.bias.data = method.meta.second.bias.data[order]
    close(renamed(moved), method(episode), 1e-12)
    assert float((method(moved) - method(episode)).detach().abs().max()) > 1e-6


def permuted(cubes, order):
    return cubes.flatten(-3)[..., order].unflatten(-1, cubes.shape[-3:])


def test_exchanging_query_and_class_exchanges_the_cross_weights(random_episode):
    episode = random_episode(b=2, way=1, shot=1, q=1)
    swapped = Episode(episode.query[:, None], episode.support[:, :, 0], episode.labels, episode.class_ids)
    method = build().eval()
    here, there = method.attention(episode), method.attention(swapped)
    close(here["class_cross"], there["query_cross"], 1e-12)
    close(here["query_cross"], there["class_cross"], 1e-12)
    close(here["class_self"][:, 0], there["query_self"][:, 0], 1e-12)


def test_ranges_of_the_presets(random_episode):
    episode = random_episode(way=5, signed=True)
    code, paper = build().eval()(episode), build(preset="paper").eval()(episode)
    assert float(code.detach().abs().max()) <= 14
    close(paper.exp().sum(-1), torch.ones(2, 2, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize(
    ("cube", "keywords", "count"),
    [
        ((16, 1, 7, 7), {}, 655),
        ((16, 1, 7, 7), {"meta_norm": "none"}, 643),
        ((16, 1, 7, 7), {"preset": "paper"}, 643),
        ((16, 4, 14, 14), {"preset": "paper"}, 10_198),
        ((16, 1, 7, 7), {"variant": "neighbor"}, 0),
        ((16, 1, 7, 7), {"meta_learner": False}, 0),
    ],
)
def test_parameter_counts(cube, keywords, count):
    bare = MASTAF.build(cube_shape=cube, n_train_classes=31, global_weight=0, **keywords)
    assert bare.n_trainable() == count
    classified = MASTAF.build(cube_shape=cube, n_train_classes=31, **keywords)
    assert classified.n_trainable() == count + 31 * 17
    assert MASTAF.build(cube_shape=cube, n_train_classes=0, **keywords).n_trainable() == count
    assert (
        MASTAF.build(cube_shape=cube, n_train_classes=0, adapter=True, **keywords).n_trainable() == count + 2 * 16 * 4
    )


def test_initial_spread_is_that_of_the_authors():
    torch.manual_seed(0)
    method = MASTAF.build(cube_shape=(4, 8, 14, 14), n_train_classes=0, bottleneck=50)
    assert float(method.get_parameter("meta.first.weight").detach().std()) == pytest.approx((2 / 50) ** 0.5, rel=0.02)
    assert float(method.get_parameter("meta.second.weight").detach().std()) == pytest.approx(
        (2 / 1568) ** 0.5, rel=0.02
    )


@pytest.mark.parametrize("preset", ["code", "paper"])
@pytest.mark.parametrize("zero", ["position", "cube"])
def test_positions_that_are_all_zeros_do_no_harm(mastaf_loops, random_episode, preset, zero):
    episode = random_episode(b=1, way=2, shot=1)
    if zero == "position":
        episode.support[0, 0, :, :, 1, 2] = 0
        episode.query[0, 0, :, 0, 0] = 0
    else:
        episode.support[0, 0] = 0
        episode.query[0, 0] = 0
    for metric in ("pool", "flat", "dense"):
        method = build(preset=preset, train_metric=metric, test_metric="flat" if metric == "flat" else "pool")
        expected = slow_loss(mastaf_loops, method, episode, parameters_of(method))
        cubes = Episode(episode.support.clone(), episode.query.clone(), episode.labels, episode.class_ids)
        cubes.support.requires_grad_(True)
        cubes.query.requires_grad_(True)
        loss = method.loss(cubes)
        close(loss.detach(), expected.detach(), 1e-9)
        loss.backward()
        found = [cubes.support.grad, cubes.query.grad, *(p.grad for p in method.parameters() if p.grad is not None)]
        assert all(float(part.abs().max()) < 1e6 for part in found)
        scores = method.eval()(episode)
        assert scores.isfinite().all()


def test_the_paper_loss_is_finite_where_its_softmax_is_one_hot(random_episode):
    cube = (512, 1, 3, 3)
    episode = random_episode(cube=cube, way=5, dtype=torch.float32)
    large = Episode(episode.support * 50, episode.query * 50, episode.labels, episode.class_ids)
    method = MASTAF.build(cube_shape=cube, n_train_classes=7, preset="paper", scale=200.0)
    loss = method.loss(large)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


def test_classes_outside_training_add_nothing_to_the_global_loss(random_episode):
    episode = random_episode()
    unknown = Episode(episode.support, episode.query, episode.labels, torch.full_like(episode.class_ids, -1))
    for preset in ("code", "paper"):
        close(build(preset=preset).loss(unknown), build(preset=preset, global_weight=0).loss(episode), 1e-12)


def test_layout_in_memory_changes_nothing(random_episode):
    episode = random_episode(q=3)
    first = [part.flatten(-3).transpose(-1, -2).contiguous() for part in (episode.support, episode.query)]
    back = [part.transpose(-1, -2).unflatten(-1, CUBE[1:]) for part in first]  # same cubes, positions first in memory
    other = Episode(back[0], back[1], episode.labels, episode.class_ids)
    assert torch.equal(other.support, episode.support)
    for method in (build(), build(preset="paper")):
        close(method.eval()(other), method(episode), 1e-12)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"preset": "papers"}, "unknown preset 'papers'; did you mean paper"),
        ({"variant": "neighbour"}, "unknown variant 'neighbour'; did you mean neighbor"),
        ({"taus": 1}, "unknown keyword of MASTAF 'taus'; did you mean tau"),
        ({"fusion": "mean"}, r"fusion \('mean'\) must be one of prob, logit"),
        ({"tau": 0}, r"tau \(0.0\) must be above 0"),
        ({"tau": float("nan")}, r"tau \(nan\) must be a finite number"),
        ({"global_weight": float("inf")}, r"global_weight \(inf\) must be a finite number"),
        ({"bottleneck": 1.5}, r"bottleneck \(1.5\) must be int"),
        ({"residual": "no"}, r"residual \('no'\) must be True or False"),
        ({"bottleneck": 0}, r"bottleneck \(0\) must be above 0"),
        ({"global_weight": -1}, r"global_weight \(-1.0\) must not be negative"),
        ({"cube_shape": (8, 7, 7)}, "must be four sizes"),
        ({"cube_shape": (8, 0, 7, 7)}, "must be four sizes"),
        ({"n_train_classes": -1}, r"n_train_classes \(-1\) must not be negative"),
    ],
)
def test_bad_keywords_are_said(keywords, words):
    with pytest.raises(FewShotError, match=words):
        MASTAF.build(**{"cube_shape": CUBE, "n_train_classes": 7, **keywords})


def test_cubes_of_another_shape_are_refused(random_episode):
    with pytest.raises(FewShotError, match=r"cubes \(8, 2, 3, 2\) must be \(8, 2, 3, 1\)"):
        build()(random_episode(cube=(8, 2, 3, 2)))


def test_a_keyword_that_is_none_keeps_the_preset():
    told = MASTAF.build(cube_shape=CUBE, n_train_classes=7, preset="paper", global_weight=None, tau=0.1).describe()
    assert (told["global_weight"], told["tau"], told["fusion"]) == (2.0, 0.1, "prob")
