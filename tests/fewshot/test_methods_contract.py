"""What every method in the table owes; a new entry is tested by standing in the table."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods import METHODS
from mastaf.fewshot.methods.base import Method
from mastaf.fewshot.methods.registry import load_method
from mastaf.fewshot.training.optimisation import OPTIMISERS, SCHEDULES

pytestmark = pytest.mark.usefixtures("one_thread")

CUBE, WAY, SHOT, CLASSES = (32, 4, 3, 2), 4, 3, 9
# Keywords that make another method of one of the table, as `name/variant`, or keep tests of a method cheap.
MORE = {
    "baseline": {"epochs": 20, "support_lr": 0.05},
    "baselinepp": {"epochs": 20, "support_lr": 0.05},
    "matchingnet/fce": {"variant": "fce", "width": 16},
    "trx": {"width": 48},
    "trx/space": {"tokens": "space", "width": 48},
    "feat/single": {"balance": 0},
    "cmn/memory": {"variant": "memory", "key_size": 48},
    "hyrsm/relation": {"variant": "relation"},
    "simpleshot/l2": {"transform": "l2"},
    "cmn_j": {"key_size": 48},
    "arn": {"channels": 16, "width": 8},
    "protogan": {"prototype_size": 8, "encoder_hidden": 16, "hidden": 32, "n_synthetic": 5},
}
# Methods whose random weights tell nothing apart, and the updates after which they do.
MUST_LEARN = {"matchingnet/fce": 40, "arn": 30}
NAMES = [*METHODS, *(name for name in MORE if "/" in name)]
each_method = pytest.mark.parametrize("name", NAMES)
with_and_without_adapter = pytest.mark.parametrize("adapter", [False, True], ids=["plain", "adapter"])


def kind_of(name):
    return load_method(name.split("/")[0])


def make(name, *, adapter=False, cube=CUBE, **keywords):
    """The method with random weights that are the same each time; an adapter that is not the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        keywords = MORE.get(name, {}) | keywords
        method = kind_of(name).build(cube_shape=cube, n_train_classes=CLASSES, adapter=adapter, **keywords)
        for key, value in method.named_parameters():
            if key == "adapter.up.weight":
                torch.nn.init.normal_(value, std=0.05)
    return method


def without_dropout(method):
    for part in method.modules():
        for name in ("dropout", "attention_dropout"):
            if hasattr(part, name):
                setattr(part, name, 0.0)
    return method


def scores(method, episode, first=0):
    """Logits [b, q, way], in the mode that the method is in; first: number of the first episode."""
    return method.score(episode, EpisodeRandom(0, first))


def draw(method, *, b=2, cube=CUBE, signed=False, spread=1.0, seed=0, way=WAY, apart=0.0):
    """Episodes as the method needs them: cubes = a centre for each class + noise of size `spread`.

    apart: size of what a class has everywhere in its cubes; the means of random cubes are much alike.
    """
    rng = torch.Generator().manual_seed(seed)
    sample = torch.randn if signed else torch.rand
    each = max(method.needs.queries, 2)
    centres = sample(b, way, 1, *cube, generator=rng)  # [b, way, 1, c, t, h, w]
    if apart:
        centres = centres + apart * sample(b, way, 1, cube[0], 1, 1, 1, generator=rng)
    support = centres + spread * sample(b, way, SHOT, *cube, generator=rng)  # [b, way, shot, c, t, h, w]
    if method.needs.query_mode == "single":
        labels = torch.randint(0, way, (b, each), generator=rng)  # [b, q]
    else:
        labels = torch.arange(way).repeat_interleave(each).expand(b, -1).clone()  # [b, q]
    own = centres[:, :, 0][torch.arange(b)[:, None], labels]  # [b, q, c, t, h, w]
    query = own + spread * sample(b, labels.shape[1], *cube, generator=rng)  # [b, q, c, t, h, w]
    ids = torch.stack([torch.randperm(CLASSES, generator=rng)[:way] for _ in range(b)])  # [b, way]
    return Episode(support, query, labels, ids)


def test_an_unknown_method_is_said():
    with pytest.raises(FewShotError, match="unknown method 'mastav'; did you mean mastaf"):
        load_method("mastav")


def test_the_table_is_read_without_torch():
    code = "import sys, mastaf.fewshot.methods; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


@each_method
def test_it_says_what_it_is(name):
    kind = kind_of(name)
    assert issubclass(kind, Method)
    assert kind.__doc__ is not None
    assert "Differs from the paper in:" in kind.__doc__
    assert kind.needs.query_mode in ("single", "per_class")
    assert kind.defaults.optimiser in OPTIMISERS
    assert kind.defaults.schedule in SCHEDULES


@each_method
@with_and_without_adapter
def test_smoothed_labels_change_the_loss(name, adapter):
    method = make(name, adapter=adapter).train()
    episode = draw(method)
    before = copy.deepcopy(method.state_dict())
    losses = []
    for smoothing in (0.0, 0.0, 0.3):
        method.load_state_dict(before)
        torch.manual_seed(0)
        losses.append(method.loss(episode, smoothing=smoothing).item())
    assert losses[0] == losses[1] != losses[2]


@each_method
@with_and_without_adapter
def test_logits_and_loss_have_their_shapes(name, adapter):
    method = make(name, adapter=adapter)
    episode = draw(method)
    logits, loss = method.eval()(episode), method.train().loss(episode)
    assert logits.shape == (*episode.labels.shape, WAY)
    assert logits.dtype == loss.dtype == torch.float32
    assert loss.shape == ()
    assert logits.isfinite().all()
    assert loss.isfinite()
    assert torch.equal(scores(method.eval(), episode), method(episode))


@each_method
@with_and_without_adapter
def test_the_order_of_ways_is_only_a_name(name, adapter):
    method = make(name, adapter=adapter)
    episode = draw(method)
    order = torch.tensor([2, 0, 3, 1])
    moved = Episode(
        episode.support[:, order], episode.query, order.argsort()[episode.labels], episode.class_ids[:, order]
    )
    method.eval()
    if method.ordered:
        return  # the scores and the loss follow the order in which the episode lists its supports
    if not method.draws:  # else each way has its own random numbers
        torch.testing.assert_close(method(moved), method(episode)[..., order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(method.loss(moved), method.loss(episode), rtol=1e-5, atol=1e-5)


@each_method
@with_and_without_adapter
def test_the_order_of_shots_means_nothing(name, adapter):
    method = make(name, adapter=adapter).eval()
    if method.ordered or method.draws:
        return
    episode = draw(method)
    moved = Episode(episode.support[:, :, [2, 0, 1]], episode.query, episode.labels, episode.class_ids)
    torch.testing.assert_close(method(moved), method(episode), rtol=1e-5, atol=1e-5)


@each_method
@with_and_without_adapter
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_batch_of_two_is_two_episodes(name, adapter, training):
    method = without_dropout(make(name, adapter=adapter)).train(training)
    episode = draw(method)
    parts = [
        Episode(*(part[i : i + 1] for part in (episode.support, episode.query, episode.labels, episode.class_ids)))
        for i in range(2)
    ]
    both, one = copy.deepcopy(method), copy.deepcopy(method)
    apart = torch.cat([scores(one, part, i) for i, part in enumerate(parts)])
    torch.testing.assert_close(scores(both, episode), apart, rtol=1e-5, atol=1e-5)
    mean = sum(one.loss(part) for part in parts) / 2
    torch.testing.assert_close(both.loss(episode), mean, rtol=1e-5, atol=1e-5)
    for key, value in both.state_dict().items():
        torch.testing.assert_close(value, one.state_dict()[key], rtol=1e-5, atol=1e-6)


@each_method
@with_and_without_adapter
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("signed", [False, True], ids=["relu", "signed"])
def test_gradients_are_finite(name, adapter, dtype, signed):
    method = make(name, adapter=adapter)
    episode = draw(method, signed=signed).to("cpu", dtype)
    episode.support.requires_grad_(True)
    episode.query.requires_grad_(True)
    loss = method.loss(episode)
    loss.backward()
    found = [p.grad for p in method.parameters() if p.grad is not None]
    cubes = [part.grad for part in (episode.support, episode.query)]
    assert loss.dtype == torch.float32
    assert all(part is not None and part.isfinite().all() for part in [*found, *cubes])
    assert method.eval()(episode).dtype == torch.float32
    assert any(float(part.abs().max()) > 0 for part in cubes if part is not None)


@each_method
@with_and_without_adapter
def test_the_smallest_cube_works_or_is_refused(name, adapter):
    kind = kind_of(name)
    if kind.needs.t > 1:
        with pytest.raises(FewShotError, match="needs t >="):
            make(name, adapter=adapter, cube=(32, 1, 1, 1))
        return
    method = make(name, adapter=adapter, cube=(32, 1, 1, 1))
    episode = draw(method, cube=(32, 1, 1, 1))
    episode.support.requires_grad_(True)
    method.loss(episode).backward()
    assert method.eval()(episode).isfinite().all()


@each_method
@with_and_without_adapter
def test_one_way_works(name, adapter):
    method = make(name, adapter=adapter)
    episode = draw(method, way=1)
    assert method.loss(episode).isfinite()
    assert method.eval()(episode).shape[-1] == 1


@each_method
@with_and_without_adapter
def test_a_separable_episode_is_solved(name, adapter):
    method = make(name, adapter=adapter)
    easy = {"spread": 0.05, "apart": 5.0}
    if name in MUST_LEARN:
        adam = torch.optim.Adam(method.parameters(), lr=0.005)
        for step in range(1, MUST_LEARN[name] + 1):
            adam.zero_grad()
            method.train().loss(draw(method, seed=step, **easy)).backward()
            adam.step()
    episode = draw(method, b=8, **easy)
    logits = scores(method.eval(), episode)
    assert torch.equal(logits.argmax(-1), episode.labels)


@each_method
@with_and_without_adapter
def test_describe_builds_it_again(name, adapter):
    method = make(name, adapter=adapter).eval()
    told = json.loads(json.dumps(method.describe(), allow_nan=False))
    again = kind_of(name).build(**told)
    again.load_state_dict(method.state_dict())
    episode = draw(method)
    assert again.describe() == method.describe()
    assert told["cube_shape"] == list(CUBE)
    assert told["adapter"] == adapter
    assert torch.equal(again.eval()(episode), method(episode))


@each_method
@with_and_without_adapter
def test_maps_to_show_are_maps_over_the_cube(name, adapter):
    method = make(name, adapter=adapter).eval()
    for values in method.attention(draw(method)).values():
        assert values.shape[-3:] == CUBE[1:]
        assert values.isfinite().all()


@each_method
@with_and_without_adapter
def test_draws_are_those_of_the_episode_by_its_number(name, adapter):
    method = make(name, adapter=adapter).eval()
    episode = draw(method)
    first, again, later = scores(method, episode), scores(method, episode), scores(method, episode, first=7)
    assert torch.equal(first, again)
    assert torch.equal(first, later) == (not method.draws)


@each_method
def test_scoring_leaves_the_method_and_the_episode_alone(name):
    method = make(name).eval()
    episode = draw(method)
    state, before = copy.deepcopy(method.state_dict()), (episode.support.clone(), episode.query.clone())
    first = method(episode)
    assert torch.equal(first, method(episode))
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())
    assert torch.equal(episode.support, before[0])
    assert torch.equal(episode.query, before[1])
