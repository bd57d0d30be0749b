"""wrap_module: a plain torch network becomes a backbone that keeps the contract."""

from collections import OrderedDict

import pytest
import torch
from mastaf.extract.backbones.weights import digest, write_weights
from mastaf.extract.backbones.wrap import wrap_module
from mastaf.extract.decoding.pixels import pixel_rule
from mastaf.extract.errors import ExtractError
from safetensors.torch import save_file
from torch import nn

MEAN, STD = (0.2, 0.4, 0.6), (0.1, 0.2, 0.3)


class Plain(nn.Module):
    """A network that is no nn.Sequential, with a whole-number buffer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(3, 4, 3, (1, 4, 4), 1)
        self.bn = nn.BatchNorm3d(4)
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, x):
        return self.bn(self.conv(x[:, self.order]).relu())


class Tuple(nn.Module):
    """Gives no tensor."""

    def forward(self, x):
        return x, x


class Elsewhere(nn.Module):
    """Each BatchNorm is registered right after a convolution, and applied somewhere else."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv = nn.Conv3d(3, 6, 3, (1, 4, 4), 1)
        self.bn = nn.BatchNorm3d(3 if how == "before" else 6)
        draw = torch.Generator().manual_seed(1)
        for values in (self.bn.running_mean, self.bn.running_var, self.bn.weight.data, self.bn.bias.data):
            values.copy_(0.5 + torch.rand(values.shape, generator=draw))

    def forward(self, x):
        if self.how == "before":
            return self.conv(self.bn(x))
        y = self.conv(x)
        return {"after relu": self.bn(y.relu()), "beside": self.bn(y) + y, "never": y, "right after": self.bn(y)}[
            self.how
        ]


def staged():
    return nn.Sequential(
        OrderedDict(one=nn.Conv3d(3, 4, 3, (1, 4, 4), 1), two=nn.Sequential(nn.Conv3d(4, 5, 1), nn.ReLU()))
    )


def wrap(build=staged, **changes):
    usual = {
        "name": "mine",
        "build": build,
        "pixels": pixel_rule(16, mean=MEAN, std=STD),
        "frames": 2,
        "weights": "random",
        "advice": "get it at https://x.org, put it into $MASTAF_WEIGHTS",
    }
    return wrap_module(**usual | changes)


def some_clips(seed=0):
    return torch.randint(0, 256, (3, 2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def by_hand(net, clips):
    """The network on clips normalised channel by channel."""
    x = clips.permute(0, 4, 1, 2, 3).double() / 255  # [b, 3, t, h, w]
    for channel in range(3):
        x[:, channel] = (x[:, channel] - MEAN[channel]) / STD[channel]
    with torch.no_grad():
        return net(x.float())


@pytest.mark.parametrize(("build", "layers"), [(staged, ("one", "two")), (Plain, ("net",))])
def test_cubes_are_those_of_the_network(build, layers):
    net = build().eval()
    wrapped = wrap(build, weights=net.state_dict())
    assert (wrapped.layers, wrapped.layer) == (layers, layers[-1])
    wanted = by_hand(net, some_clips())
    assert wrapped.cube_shape == tuple(wanted.shape[1:])
    torch.testing.assert_close(wrapped.forward(some_clips()), wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(wrapped.prepare_for_inference("fp32")(some_clips()), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("how", ["before", "after relu", "beside", "never", "right after"])
def test_the_fast_form_computes_what_the_network_computes(how):
    wrapped = wrap(lambda: Elsewhere(how))
    with torch.no_grad():
        plain = wrapped.forward(some_clips())
    torch.testing.assert_close(wrapped.prepare_for_inference("fp32")(some_clips()), plain, atol=1e-4, rtol=1e-4)
    fast = wrapped.prepare_for_inference("bf16")(some_clips())
    assert torch.nn.functional.cosine_similarity(fast.flatten(1), plain.flatten(1)).min() > 0.999


def test_children_of_a_sequential_are_layers():
    whole, first = wrap(), wrap(layer="one")
    assert first.cube_shape == (4, 2, 4, 4)
    assert whole.weights_sha256 == first.weights_sha256
    torch.testing.assert_close(whole.tail(first.forward(some_clips()), "one"), whole.forward(some_clips()))
    with pytest.raises(ExtractError, match=r"layer \('three'\) of backbone 'mine' must be one of one, two"):
        wrap(layer="three")


@pytest.mark.parametrize("build", [staged, Plain])
def test_a_file_under_the_networks_own_names_loads_and_so_does_one_of_finetune(tmp_path, monkeypatch, build):
    monkeypatch.setenv("MASTAF_WEIGHTS", str(tmp_path))
    state = build().state_dict()
    save_file(state | {"fc.weight": torch.zeros(2)}, tmp_path / "mine.safetensors")
    known = {"pretraining": ["x"], "licence": "MIT"}
    loaded = wrap(build, weights="mine.safetensors", ignored=("fc.",), **known)
    assert loaded.weights_sha256 == digest(state)
    assert loaded.weights_source == str(tmp_path / "mine.safetensors")
    assert loaded.facts == known
    tuned = {"backbone": "mine", "facts": {"pretraining": ["x", "motion"], "licence": "MIT"}}
    write_weights(tmp_path / "tuned.safetensors", loaded.module.state_dict(), provenance=tuned)
    again = wrap(build, weights="tuned.safetensors")
    assert again.weights_sha256 == loaded.weights_sha256
    assert again.facts == tuned["facts"]


def test_random_weights_follow_the_seed_and_leave_the_generator_alone():
    before = torch.random.get_rng_state()
    first, again, other = (wrap(seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert first.weights_source == "random (seed 5)"
    assert first.facts == {"pretraining": [], "licence": "none"}


def test_half_precision_networks_and_weights_become_float32():
    wrapped = wrap(lambda: staged().half(), weights={k: v.half() for k, v in staged().state_dict().items()})
    assert {p.dtype for p in wrapped.module.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in wrapped.module.parameters())


def test_every_parameter_can_be_trained():
    wrapped = wrap(Plain)
    wrapped.forward(some_clips()).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in wrapped.module.parameters())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": None}, "weights of backbone 'mine' must be a file, or `random`; get it at https://x.org"),
        ({"weights": "absent.pth"}, "weights (absent.pth) must be a file, or `random`; get it at https://x.org"),
        ({"weights": {"a": torch.zeros(2)}}, "do not fit backbone 'mine': 4 missing (one.weight"),
        ({"weights": Plain().state_dict()}, "https://x.org"),
        ({"build": lambda: nn.Sequential(*[nn.ReLU()] * 2)}, "stages of an nn.Sequential must be modules of their own"),
        ({"build": lambda: nn.Flatten()}, "must give [2, c, t, h, w], but gave [2, 1536]"),
        ({"build": lambda: nn.LSTM(16, 4)}, "failed: "),
        ({"build": Tuple}, "must give a tensor [b, c, t, h, w], but gave tuple"),
        ({"build": lambda: nn.Conv2d(3, 4, 3)}, "failed: RuntimeError: "),
        ({"build": nn.Sequential}, "must have a stage"),
        ({"build": lambda: None}, "build must return a torch.nn.Module, but gave NoneType"),
    ],
)
def test_what_cannot_be_wrapped_is_one_clear_line(monkeypatch, changes, words):
    monkeypatch.delenv("MASTAF_WEIGHTS", raising=False)
    with pytest.raises(ExtractError) as caught:
        wrap(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_gives_no_cubes_is_one_line():
    stages = OrderedDict(stem=nn.Conv3d(3, 4, 3, 2, 1), flat=nn.Flatten(), last=nn.Unflatten(1, (4, 2, 4, 4)))
    backbone = wrap_module(
        name="mine",
        build=lambda: nn.Sequential(stages),
        pixels=pixel_rule(8, mean=MEAN, std=STD),
        frames=4,
        weights="random",
        advice="none",
    )
    with pytest.raises(ExtractError, match=r"layer \('flat'\) must give cubes \[b, c, t, h, w\], but gave \[1, 128\]"):
        backbone.at("flat")
