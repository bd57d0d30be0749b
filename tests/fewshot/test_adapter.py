"""The adapter in front of a method."""

import pytest
import torch
from mastaf.fewshot.methods.adapter import Adapted, Adapter
from mastaf.fewshot.methods.base import Method
from mastaf.fewshot.methods.mastaf import MASTAF

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_starts_as_the_identity():
    cubes = torch.randn(2, 3, 8, 2, 3, 1)
    assert torch.equal(Adapter(8)(cubes), cubes)


def test_each_position_is_mapped_by_itself():
    adapter = Adapter(8)
    torch.nn.init.normal_(adapter.up.weight)
    cubes = torch.randn(3, 8, 2, 3, 2)
    got = adapter(cubes)
    for n, t, h, w in ((0, 0, 0, 0), (2, 1, 2, 1), (1, 0, 2, 0)):
        r = cubes[n, :, t, h, w]
        expected = r + adapter.up.weight @ torch.clamp(adapter.down.weight @ r, min=0)
        torch.testing.assert_close(got[n, :, t, h, w], expected)


def test_its_size_is_half_a_square():
    assert sum(p.numel() for p in Adapter(2048).parameters()) == 2048 * 2048 // 2
    assert Adapter(2).down.weight.shape == (1, 2)


def test_adapted_is_the_method_on_adapted_cubes(random_episode):
    adapted = MASTAF.build(cube_shape=(8, 2, 3, 1), n_train_classes=7, adapter=True).eval()
    assert isinstance(adapted, Adapted)
    episode = random_episode(dtype=torch.float32)
    assert torch.equal(adapted(episode), adapted.method(episode))
    torch.nn.init.normal_(adapted.adapter.up.weight)
    support, query = adapted.adapter(episode.support), adapted.adapter(episode.query)
    moved = type(episode)(support, query, episode.labels, episode.class_ids)
    assert torch.equal(adapted(episode), adapted.method(moved))
    assert torch.equal(adapted.loss(episode), adapted.method.loss(moved))
    assert torch.equal(adapted.attention(episode)["class_self"], adapted.method.attention(moved)["class_self"])
    assert adapted.needs is adapted.method.needs
    assert {key.split(".")[0] for key in adapted.state_dict()} == {"adapter", "method"}


def test_the_loss_teaches_it(random_episode):
    adapted = MASTAF.build(cube_shape=(8, 2, 3, 1), n_train_classes=7, adapter=True, variant="neighbor")
    adapted.loss(random_episode(dtype=torch.float32)).backward()
    grad = adapted.get_parameter("adapter.up.weight").grad
    assert grad is not None
    assert float(grad.abs().max()) > 0


def test_hooks_reach_the_method():
    class Probe(Method):
        seen = torch.zeros(0)

        def __init__(self, *, cube_shape, n_train_classes):
            super().__init__()
            self.cube_shape, self.n_train_classes = cube_shape, n_train_classes

        def calibrate(self, cubes):
            self.seen = cubes

        def fit(self, bank, rng):
            self.fitted = bank

    adapted = Probe.build(cube_shape=(8, 1, 1, 1), n_train_classes=2, adapter=True)
    assert isinstance(adapted, Adapted)
    torch.nn.init.normal_(adapted.adapter.up.weight)
    cubes = torch.randn(5, 8, 1, 1, 1)
    adapted.calibrate(cubes)
    adapted.fit("bank", None)
    assert torch.equal(adapted.method.seen, adapted.adapter(cubes).detach())
    assert adapted.method.fitted == "bank"
    assert adapted.describe() == {"cube_shape": [8, 1, 1, 1], "n_train_classes": 2, "adapter": True}
