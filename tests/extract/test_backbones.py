"""The contract of every backbone of the table: a new name is tested without a new test."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.inference import cpu_has_bf16, resolve_precision
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError

FRAMES, SIZE = 8, 32


@pytest.fixture(scope="module", params=list(BACKBONES))
def backbone(request, small_hub) -> Backbone:
    loaded = load_backbone(small_hub[request.param], weights="random", frames=FRAMES, size=SIZE, seed=3)
    # Statistics as after training, so that folding has something to fold.
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in loaded.module.state_dict().items():
            if name.endswith("running_mean"):
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            elif value.dim() == 1 and value.is_floating_point() and not name.endswith("bias"):
                value.copy_(0.8 + 0.4 * torch.rand(value.shape, generator=generator))
    return loaded


def some_clips(backbone: Backbone, count: int = 2, seed: int = 0) -> torch.Tensor:
    shape = (count, backbone.frames, backbone.size, backbone.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_cubes_have_the_declared_shape(backbone):
    cubes = backbone.forward(some_clips(backbone))
    assert tuple(cubes.shape) == (2, *backbone.cube_shape)
    assert cubes.dtype == torch.float32
    assert cubes.isfinite().all()


def test_front_and_tail_are_the_whole_at_every_stage(backbone):
    clips = some_clips(backbone)
    with torch.no_grad():
        whole = backbone.forward(clips)
        for layer in backbone.layers:
            cube = backbone.front(clips, layer)
            if backbone.module.prefix_tokens and layer != backbone.layer:
                # A cube without its class token is not enough to go on from, and that is said.
                with pytest.raises(ExtractError, match="hold no class or register tokens"):
                    backbone.tail(cube, layer)
            else:
                assert torch.equal(backbone.tail(cube, layer), whole), layer


def test_stages_own_every_parameter_once(backbone):
    """Of those that can be trained: what no cube depends on (a pooler) is frozen."""
    of_stages = [p for stage in backbone.module.stages().values() for p in stage.parameters() if p.requires_grad]
    assert len(of_stages) == len({id(p) for p in of_stages})
    assert {id(p) for p in of_stages} == {id(p) for p in backbone.module.parameters() if p.requires_grad}
    assert of_stages


def test_one_backward_pass_reaches_every_parameter(backbone):
    backbone.forward(some_clips(backbone)).square().mean().backward()
    trained = [(name, p) for name, p in backbone.module.named_parameters() if p.requires_grad]
    without = [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()]
    backbone.module.zero_grad(set_to_none=True)
    assert without == []


def test_normalisation_is_scale_then_mean_and_std(backbone):
    clips = some_clips(backbone, 1)
    rule = backbone.pixels
    normal = backbone.normalise(clips)
    for channel in range(3):
        expected = (clips[0, ..., channel].double() * rule.scale + rule.offset - rule.mean[channel]) / rule.std[channel]
        torch.testing.assert_close(normal[0, channel].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", ["last", "middle"])
def test_folded_float32_equals_the_plain_network(backbone, layer):
    name = backbone.layers[-1 if layer == "last" else len(backbone.layers) // 2]
    cut = load_backbone(backbone.name, weights="random", frames=FRAMES, size=SIZE, layer=name)
    cut.module.load_state_dict(backbone.module.state_dict())
    clips = some_clips(cut)
    before = {k: v.clone() for k, v in cut.module.state_dict().items()}
    with torch.no_grad():
        plain = cut.forward(clips)
    fast = cut.prepare_for_inference("fp32", "cpu")(clips)
    assert fast.dtype == torch.float32
    assert fast.is_contiguous()
    assert (fast - plain).abs().max() <= 1e-4 * plain.abs().max()
    after = cut.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before), "preparing must leave the plain network alone"


def test_bfloat16_points_the_same_way(backbone):
    clips = some_clips(backbone)
    with torch.no_grad():
        plain = backbone.forward(clips).flatten(1)
    fast = backbone.prepare_for_inference("bf16", "cpu")(clips).flatten(1)
    assert fast.dtype == torch.float32
    assert torch.cosine_similarity(plain, fast, dim=1).min() >= 0.999


def test_the_fast_form_gives_the_same_bits_again(backbone):
    clips = some_clips(backbone)
    run = backbone.prepare_for_inference(resolve_precision("auto", "cpu"), "cpu")
    assert torch.equal(run(clips), run(clips))


def test_computing_stages_again_changes_no_gradient(backbone):
    """And moves no running statistic twice."""
    clips, net = some_clips(backbone), backbone.module
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = []
    for again in (False, True):
        net.checkpointing = again
        net.train()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            cubes = backbone.forward(clips)
            trained = [p for p in net.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(cubes.square().mean(), trained, allow_unused=True)
        found.append(([g for g in gradients if g is not None], {k: v.clone() for k, v in net.state_dict().items()}))
        net.load_state_dict(before)
        net.eval()
    net.checkpointing = False
    (plain, moved), (other, moved_again) = found
    assert len(plain) == len(other)
    for one, two in zip(plain, other, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(moved[name], moved_again[name]) for name in moved)


def test_random_weights_follow_the_seed_alone(backbone):
    before = torch.random.get_rng_state()
    first, again, other = (
        load_backbone(backbone.name, weights="random", frames=FRAMES, size=SIZE, seed=seed) for seed in (5, 5, 6)
    )
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator must not be touched"
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert torch.equal(first.forward(some_clips(first)), again.forward(some_clips(first)))


def test_record_is_plain_and_complete(backbone):
    assert backbone.module.training is False
    assert len(backbone.weights_sha256) == 64
    assert isinstance(backbone.facts["pretraining"], list)
    json.dumps([backbone.facts, asdict(backbone.pixels), backbone.cube_shape, backbone.weights_source])


@given(frames=st.integers(1, 20), size=st.integers(1, 8).map(lambda n: 8 * n) | st.integers(8, 70), data=st.data())
@settings(max_examples=6, deadline=None)
def test_cube_shape_by_arithmetic_is_the_networks(backbone, frames, size, data):
    layer = data.draw(st.sampled_from(backbone.layers))
    try:
        loaded = load_backbone(backbone.name, weights="random", frames=frames, size=size, layer=layer)
    except ExtractError as error:
        assert "must be a multiple of" in str(error)  # noqa: PT017 - of a tubelet
        return
    with torch.no_grad():
        assert tuple(loaded.forward(some_clips(loaded, 1)).shape[1:]) == loaded.cube_shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "r3d-tinny"}, "did you mean r3d-tiny"),
        ({"frames": 0}, "frames (0) must be at least 1"),
        ({"size": 0}, "size (0) must be at least 1"),
        ({"layer": "layer9"}, "layer ('layer9') of backbone 'r3d-tiny' must be one of stem, layer1"),
        ({"weights": "no/such/file.pth"}, "no/such/file.pth"),
    ],
)
def test_wrong_arguments_are_one_clear_line(change, words):
    with pytest.raises(ExtractError) as caught:
        load_backbone(**({"name": "r3d-tiny", "weights": "random"} | change))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_clips_are_refused_with_the_shape_that_is_meant(backbone):
    clips = some_clips(backbone)
    for wrong in (clips[:, :-1], clips.float(), clips.permute(0, 4, 1, 2, 3)):
        with pytest.raises(ExtractError, match=r"must be uint8 \[b, 8, 32, 32, 3\]"):
            backbone.forward(wrong)


def test_precision_names():
    assert resolve_precision("auto", "cpu") == ("bf16" if cpu_has_bf16() else "fp32")
    assert [resolve_precision(name, "cpu") for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    with pytest.raises(ExtractError, match="precision"):
        resolve_precision("fp8", "cpu")


def test_importing_changes_no_global_state_and_the_table_needs_no_torch():
    code = (
        "import sys, mastaf.extract.backbones as table; assert 'torch' not in sys.modules;"
        "import torch; before = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),"
        " torch.random.get_rng_state().sum());"
        "[__import__(path.split(':')[0]) for path in table.BACKBONES.values()];"
        "import mastaf.extract.backbones.registry, mastaf.extract.backbones.inference;"
        "after = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),"
        " torch.random.get_rng_state().sum()); assert before == after"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
