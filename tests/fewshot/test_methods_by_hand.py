"""Methods in cases that can be worked out by hand, and properties that their equations imply."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.fewshot.cubes.bank import FeatureBank
from mastaf.fewshot.episodes.episode import Episode
from mastaf.fewshot.episodes.randomness import EpisodeRandom
from mastaf.fewshot.errors import FewShotError
from mastaf.fewshot.methods.arn import ARN
from mastaf.fewshot.methods.baseline import Baseline
from mastaf.fewshot.methods.cmn import CMN
from mastaf.fewshot.methods.cmn_j import CMNJ
from mastaf.fewshot.methods.feat import FEAT
from mastaf.fewshot.methods.matchingnet import MatchingNet
from mastaf.fewshot.methods.otam import OTAM
from mastaf.fewshot.methods.pal import PAL
from mastaf.fewshot.methods.probe import LinearProbe
from mastaf.fewshot.methods.protogan import ProtoGAN
from mastaf.fewshot.methods.protonet import ProtoNet
from mastaf.fewshot.methods.simpleshot import SimpleShot
from mastaf.fewshot.methods.trx import TRX
from mastaf.fewshot.methods.tsnpp import TSNPlusPlus

pytestmark = pytest.mark.usefixtures("one_thread")

CUBE = (6, 4, 2, 2)


def build(kind, cube=CUBE, **keywords):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind.build(cube_shape=cube, n_train_classes=5, **keywords).double().eval()


def shuffle_time(episode, order):
    return Episode(episode.support[:, :, :, :, order], episode.query[:, :, :, order], episode.labels, episode.class_ids)


def bent_path(cost, lam):
    """The soft minimum over every path of OTAM, path by path; its graph is walked from the last cell back."""
    rows, columns = cost.shape
    padded = np.pad(cost, ((0, 0), (1, 1)))

    def costs(row, column):
        if column == 0:
            return [0.0]
        if row == 0:
            return [padded[0, 1 : column + 1].sum()]
        before = [(row - 1, column - 1), (row, column - 1)]
        if column in (1, columns + 1):
            before.append((row - 1, column))
        return [padded[row, column] + found for cell in before for found in costs(*cell)]

    found = np.array(costs(rows - 1, columns + 1))
    return found.min() - lam * np.log(np.exp(-(found - found.min()) / lam).sum())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    rows=st.integers(1, 4), columns=st.integers(1, 4), lam=st.sampled_from([0.05, 0.1, 0.5]), seed=st.integers(0, 99)
)
def test_otam_is_the_soft_minimum_over_all_paths(rows, columns, lam, seed):
    cost = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = OTAM(cube_shape=CUBE, n_train_classes=0, lam=lam).align(cost)
    assert float(found) == pytest.approx(bent_path(cost.numpy(), lam), abs=1e-9)


@pytest.mark.parametrize(
    ("cost", "cheapest"),
    [
        ([[0.1, 0.9], [0.8, 0.2]], 0.1 + 0.2),
        ([[0.1, 0.8], [0.9, 0.2]], 0.1 + 0.2),
        ([[0.1, 0.9, 0.9], [0.9, 0.2, 0.9], [0.9, 0.9, 0.3]], 0.1 + 0.2 + 0.3),
        ([[0.4]], 0.4),
    ],
)
def test_otam_takes_the_cheapest_path_where_it_is_hard(cost, cheapest):
    hard, soft = (OTAM(cube_shape=CUBE, n_train_classes=0, lam=lam) for lam in (1e-3, 0.5))
    table = torch.tensor(cost, dtype=torch.float64)
    assert float(hard.align(table)) == pytest.approx(cheapest, abs=1e-9)
    assert float(soft.align(table)) <= cheapest  # a soft minimum is below the minimum


def test_otam_is_finite_where_exp_and_log_are_not(random_episode):
    episode = random_episode(cube=(8, 32, 1, 1), signed=True, dtype=torch.float32)
    episode.query.requires_grad_(True)
    loss = OTAM.build(cube_shape=(8, 32, 1, 1), n_train_classes=0).loss(episode)
    (slope,) = torch.autograd.grad(loss, episode.query)
    assert loss.isfinite()
    assert slope.isfinite().all()


def test_otam_without_time_is_twice_tsnpp(random_episode):
    """Up to the constant of 2 (1 - c)."""
    cube = (6, 1, 2, 2)
    episode = random_episode(cube=cube)
    torch.testing.assert_close(build(OTAM, cube)(episode), 2 * build(TSNPlusPlus, cube)(episode) - 2)


def test_otam_sees_the_order_of_time_and_tsnpp_does_not(random_episode):
    episode = random_episode(cube=CUBE)
    backwards = Episode(episode.support, episode.query.flip(3), episode.labels, episode.class_ids)
    assert not torch.allclose(build(OTAM)(backwards), build(OTAM)(episode), atol=1e-4)
    torch.testing.assert_close(build(TSNPlusPlus)(backwards), build(TSNPlusPlus)(episode))


def test_trx_of_single_frames_is_a_distance_after_a_linear_map(random_episode):
    cube = (6, 1, 2, 2)
    episode = random_episode(cube=cube, shot=1)
    method = build(TRX, cube, width=5)
    assert "t = 1" in method.note()
    gap = episode.query.mean((3, 4, 5)).unsqueeze(2) - episode.support[:, :, 0].mean((3, 4, 5)).unsqueeze(1)
    mapped = gap @ method.crosses[0].value.weight.T  # [b, q, way, 5]
    torch.testing.assert_close(method(episode), -mapped.square().sum(-1))


@pytest.mark.parametrize(("t", "used"), [(1, [1]), (2, [2]), (3, [2, 3]), (8, [2, 3])])
def test_trx_leaves_out_cardinalities_that_time_is_too_short_for(t, used):
    assert build(TRX, (4, t, 1, 1), width=3).used == used


def test_trx_is_the_same_in_slices(random_episode, monkeypatch):
    """Memory is bounded by slices of queries and of episodes, in training by computing them again."""
    episode = random_episode(cube=CUBE, q=3)
    method = build(TRX, width=5)
    whole = method.loss(episode)
    slopes = torch.autograd.grad(whole, list(method.parameters()))
    monkeypatch.setattr("mastaf.fewshot.methods.trx._TUPLE_BYTES", 1)
    monkeypatch.setattr("mastaf.fewshot.methods.tuple_cross._SLICE_BYTES", 1)
    sliced = method.loss(episode)
    torch.testing.assert_close(sliced, whole)
    for a, b in zip(torch.autograd.grad(sliced, list(method.parameters())), slopes, strict=True):
        torch.testing.assert_close(a, b)


def test_protonet_of_one_shot_is_the_nearest_neighbour(random_episode):
    episode = random_episode(cube=CUBE, shot=1, q=6)
    query, support = episode.query.mean((3, 4, 5)), episode.support[:, :, 0].mean((3, 4, 5))
    assert torch.equal(build(ProtoNet)(episode).argmax(2), torch.cdist(query, support).argmin(2))


def test_matchingnet_gives_probabilities(random_episode):
    for keywords in ({}, {"variant": "fce", "width": 4}):
        logits = build(MatchingNet, **keywords)(random_episode(cube=CUBE))
        torch.testing.assert_close((logits.exp() - 1e-6).sum(2), torch.ones(logits.shape[:2], dtype=torch.float64))


def test_fce_follows_the_order_of_the_supports(random_episode):
    episode = random_episode(cube=CUBE)
    moved = Episode(episode.support.flip(2), episode.query, episode.labels, episode.class_ids)
    method = build(MatchingNet, variant="fce", width=4, beta=2.0)
    assert method.ordered
    assert not torch.allclose(method(moved), method(episode))


@pytest.mark.parametrize("way", [2, 3])
def test_cmn_of_one_shot_is_cmn_j(random_episode, way):
    episode = random_episode(cube=CUBE, way=way, shot=1)
    one, other = build(CMN, variant="memory", key_size=7), build(CMNJ, key_size=7)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(episode), other(episode))


@pytest.mark.parametrize("kind", [CMN, CMNJ])
def test_cmn_does_not_see_the_order_of_time(kind, random_episode):
    episode = random_episode(cube=CUBE)
    method = build(kind, key_size=6)
    torch.testing.assert_close(method(shuffle_time(episode, [2, 0, 3, 1])), method(episode))


@pytest.mark.parametrize("kind", [FEAT, PAL])
def test_queries_do_not_see_each_other(kind, random_episode):
    episode = random_episode(cube=CUBE, q=3)
    first = Episode(episode.support, episode.query[:, :1], episode.labels[:, :1], episode.class_ids)
    torch.testing.assert_close(build(kind)(first), build(kind)(episode)[:, :1])


def test_feat_learns_the_length_of_features():
    method = build(FEAT)
    cubes = 3 * torch.rand(9, *CUBE, dtype=torch.float64)
    method.calibrate(cubes)
    lengths = torch.linalg.vector_norm(cubes.mean((2, 3, 4)) / method.length, dim=1)
    assert float(lengths.mean()) == pytest.approx(CUBE[0] ** 0.5)


@pytest.mark.parametrize("kind", [FEAT, PAL])
def test_uneven_queries_are_refused(kind, random_episode):
    episode = random_episode(cube=CUBE, q=1)
    with pytest.raises(FewShotError, match=r"must be equally many of each way; train with --query-mode per_class"):
        build(kind).loss(episode)


@pytest.mark.parametrize("signed", [False, True])
def test_arn_describes_cubes_by_bounded_symmetric_matrices(random_episode, signed):
    cubes = random_episode(cube=CUBE, signed=signed).query
    method = build(ARN, channels=16, width=2)
    found = method.describe_cubes(cubes).detach()  # [b, q, 16, 16]
    torch.testing.assert_close(found, found.transpose(2, 3))
    assert float(found.min()) >= 0  # after a relu
    assert float(found.max()) < 1
    second = torch.atanh(found) * 2 / method.sigma
    torch.testing.assert_close(second.diagonal(dim1=2, dim2=3).sum(2), torch.ones(2, 2, dtype=torch.float64))


def test_arn_describes_a_set_of_positions(random_episode):
    """Where the detector sees nothing, the order of positions means nothing; where it sees, that of what it sees."""
    cubes = random_episode(cube=CUBE).query
    method, sizes = build(ARN, channels=16, width=2), CUBE[1:]
    moved = cubes.flatten(3)[..., torch.randperm(16, generator=torch.Generator().manual_seed(0))].unflatten(3, sizes)
    torch.nn.init.zeros_(method.locate.weight)
    torch.testing.assert_close(method.describe_cubes(moved), method.describe_cubes(cubes))


def test_protogan_without_generated_features_does_not_draw(random_episode):
    episode = random_episode(cube=CUBE)
    method = build(ProtoGAN, n_synthetic=0, prototype_size=4, encoder_hidden=4, hidden=4)
    torch.testing.assert_close(method.score(episode, EpisodeRandom(0)), method.score(episode, EpisodeRandom(1)))


def test_baseline_gives_each_episode_its_own_numbers(random_episode):
    """Twice the same episode in a batch is not twice the same classifier."""
    one = random_episode(b=1, cube=CUBE)
    parts = (one.support, one.query, one.labels, one.class_ids)
    twice = Episode(*(torch.cat([part, part]) for part in parts))
    first, second = build(Baseline, epochs=2).score(twice, EpisodeRandom())
    assert not torch.allclose(first, second)


WRONG = [
    (TSNPlusPlus, {"proto": "sum"}, r"unknown proto 'sum'"),
    (ProtoNet, {"temperature": 0}, r"temperature \(0\) must be a number above 0"),
    (MatchingNet, {"variant": "lstm"}, r"unknown variant 'lstm'"),
    (OTAM, {"lam": "x"}, r"lam \('x'\) must be a number above 0"),
    (TRX, {"cardinalities": 2}, r"cardinalities \(2\) must be a list of whole numbers, such as \[2, 3\]"),
    (TRX, {"cardinalities": [0]}, r"cardinalities \(0\) must be a whole number of at least 1"),
    (TRX, {"dropout": 1.0}, r"dropout \(1.0\) must be below 1"),
    (FEAT, {"balance": -1}, r"balance \(-1\) must be a number of at least 0"),
    (PAL, {"contrast": "none"}, r"unknown contrast 'none'"),
    (CMN, {"saliencies": 1.5}, r"saliencies \(1.5\) must be a whole number of at least 1"),
    (CMN, {"sequence": "frames"}, r"unknown sequence 'frames'"),
    (ARN, {"channels": 40}, r"channels \(40\) must be a multiple of 16"),
    (Baseline, {"epochs": True}, r"epochs \(True\) must be a whole number of at least 1"),
]


@pytest.mark.parametrize(("kind", "keywords", "says"), WRONG)
def test_what_cannot_be_is_said_in_a_line(kind, keywords, says):
    with pytest.raises(FewShotError, match=says) as error:
        build(kind, **keywords)
    assert "\n" not in str(error.value)


def test_the_probe_finds_the_minimum(random_episode):
    episode = random_episode(b=1, way=3, shot=3, cube=CUBE, signed=True)
    x = torch.nn.functional.normalize(episode.support[0].mean((3, 4, 5)), dim=-1).flatten(0, 1)  # [n, c]
    y = torch.arange(3).repeat_interleave(3)
    weight, bias = torch.zeros(3, CUBE[0], dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    solver = torch.optim.LBFGS([weight.requires_grad_(), bias.requires_grad_()], max_iter=500, tolerance_grad=1e-12)

    def objective():
        solver.zero_grad()
        total = torch.nn.functional.cross_entropy(x @ weight.T + bias, y, reduction="sum") + weight.square().sum() / 4
        total.backward()
        return total

    solver.step(objective)
    query = torch.nn.functional.normalize(episode.query[0].mean((2, 3, 4)), dim=-1)
    found = build(LinearProbe, strength=2.0, steps=3000)(episode)[0]
    wanted = query @ weight.T + bias
    gap = (found - found.mean(1, keepdim=True)) - (wanted - wanted.mean(1, keepdim=True))
    torch.testing.assert_close(gap.detach(), torch.zeros_like(gap), rtol=0, atol=1e-4)


def test_simpleshot_centres_by_the_train_videos(toy_store):
    bank = FeatureBank(toy_store, "train")
    method = SimpleShot.build(cube_shape=toy_store.spec.cube_shape, n_train_classes=6)
    method.fit(bank, np.random.default_rng(0))
    wanted = bank.cubes(np.arange(len(bank))).mean((0, 2, 3, 4))
    torch.testing.assert_close(method.state_dict()["centre"], wanted)


def fit_protogan(store, **keywords):
    """A fitted ProtoGAN and, of the train videos, features [n, c] and class numbers [n]."""
    bank = FeatureBank(store, "train")
    cubes = bank.cubes(np.arange(len(bank)))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"prototype_size": 8, "encoder_hidden": 16, "encoder_steps": 100}
        method = ProtoGAN.build(cube_shape=store.spec.cube_shape, n_train_classes=6, **sizes, **keywords)
        method.calibrate(cubes)
        method.fit(bank, np.random.default_rng(0))
    return method, method.read(cubes), torch.tensor([bank.class_names.index(name) for name in bank.classes])


@pytest.fixture
def separable(make_store, tmp_path):
    return make_store(tmp_path / "cubes.zarr", cube_shape=(8, 1, 1, 1), separation=2.0, videos=20)


def test_protogan_learns_prototypes_and_is_the_same_each_time(separable):
    (method, read, numbers), (again, _, _) = (fit_protogan(separable, hidden=16, gan_steps=2) for _ in range(2))
    there = again.state_dict()
    assert all(torch.equal(value, there[name]) for name, value in method.state_dict().items())
    assert bool(method.signed)
    with torch.no_grad():
        embedded = method.encoder(read)  # [n, p]
    prototypes = torch.stack([embedded[numbers == n].mean(0) for n in range(6)])
    assert float((torch.cdist(embedded, prototypes).argmin(1) == numbers).float().mean()) > 0.6  # by chance 1 in 6


def test_protogan_generates_what_is_of_its_class(separable):
    method, read, numbers = fit_protogan(separable, hidden=64, gan_steps=60, gan_lr=0.01)
    means = torch.stack([read[numbers == n].mean(0) for n in range(6)])
    with torch.no_grad():
        prototypes = torch.stack([method.encoder(read[numbers == n]).mean(0) for n in range(6)])
        noise = torch.randn(20, 6, 8, generator=torch.Generator().manual_seed(0))
        made = method.generate(noise, prototypes.expand(20, -1, -1))  # [20, 6, c]
    nearest = torch.cdist(made.flatten(0, 1), means).argmin(1).view(20, 6)
    assert float((nearest == torch.arange(6)).float().mean()) > 0.4  # by chance 1 in 6


def test_trx_tells_near_classes_apart_in_half_precision():
    """Distances that are a hundredth of the features: products in bfloat16 would leave nothing of them."""
    rng, cube, gap = torch.Generator().manual_seed(0), (64, 8, 1, 1), 0.01
    means = torch.rand(cube, generator=rng) + gap * torch.randn(10, 5, *cube, generator=rng)
    labels = torch.arange(5).expand(10, 5)
    support, query = (means + gap / 2 * torch.randn(means.shape, generator=rng) for _ in range(2))
    exact = build(TRX, cube=cube)
    wanted = exact(Episode(support.unsqueeze(2).double(), query.double(), labels, labels))
    with torch.autocast("cpu", torch.bfloat16):
        half = exact.float()(Episode(support.unsqueeze(2), query, labels, labels))
    assert half.dtype == torch.float32
    assert (half.argmax(-1) == wanted.argmax(-1)).double().mean() > 0.9
