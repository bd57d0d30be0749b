"""Convolutions over planes equal torch's, with their gradients; on a GPU the fused network equals the plain one."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mastaf.extract.backbones.gpu_convolution import FewChannelsConv3d, convolve_planes, relu_of
from mastaf.extract.backbones.registry import load_backbone
from torch import nn
from torch.nn import functional as F


@st.composite
def convolutions(draw: Any) -> dict[str, Any]:
    kernel = [draw(st.integers(1, 7)) for _ in range(3)]
    padding = [draw(st.integers(0, size // 2)) for size in kernel]
    stride_hw = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 3)]))
    return {
        "c": draw(st.integers(1, 5)),
        "kernel": kernel,
        "padding": tuple(padding),
        "stride": (draw(st.integers(1, 3)), *stride_hw),
        "shape": [draw(st.integers(max(1, size - 2 * pad), 10)) for size, pad in zip(kernel, padding, strict=True)],
        "asks": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_planes_give_the_convolution_and_its_gradients(case: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(2, case["c"], *case["shape"], generator=generator, dtype=torch.float64)  # [b, c, t, h, w]
    weight = torch.randn(3, case["c"], *case["kernel"], generator=generator, dtype=torch.float64)
    bias = torch.randn(3, generator=generator, dtype=torch.float64)
    asked = [part.requires_grad_() for part in ((x, weight) if case["asks"] else (weight,))]
    want = F.conv3d(x, weight, bias, case["stride"], case["padding"])
    found = convolve_planes(x, weight, bias, stride=case["stride"], padding=case["padding"])
    torch.testing.assert_close(found, want)
    along = torch.randn(want.shape, generator=generator, dtype=torch.float64)
    for ours, plain in zip(
        torch.autograd.grad(found, asked, along), torch.autograd.grad(want, asked, along), strict=True
    ):
        torch.testing.assert_close(ours, plain)


def test_numbers_of_two_bytes_are_stacked_as_those_of_eight() -> None:
    x = torch.randint(-4, 5, (1, 3, 5, 9, 9)).bfloat16()  # small whole numbers: sums are exact in any order
    weight = torch.randint(-1, 2, (2, 3, 3, 3, 3)).bfloat16()
    found = convolve_planes(x, weight, None, stride=(1, 2, 2), padding=(1, 1, 1))
    want = F.conv3d(x.double(), weight.double(), None, (1, 2, 2), 1)
    torch.testing.assert_close(found.double(), want.bfloat16().double())


def test_relu_of_a_sum() -> None:
    conv, norm, shortcut = nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4).eval(), nn.Conv3d(2, 4, 1)
    x, add = torch.randn(1, 3, 2, 4, 4), torch.randn(1, 2, 2, 4, 4)
    torch.testing.assert_close(relu_of(conv, norm, x), norm(conv(x)).relu())
    torch.testing.assert_close(
        relu_of(conv, norm, x, add=add, through=shortcut), (norm(conv(x)) + shortcut(add)).relu()
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "frames", "size"), [("r3d", 16, 64), ("r3d", 5, 50), ("r3d-tiny", 16, 64)])
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_a_gpu_gives_the_cubes_of_the_plain_network(name: str, frames: int, size: int, precision: str) -> None:
    backbone = load_backbone(name, weights="random" if name == "r3d" else None, frames=frames, size=size)
    clips = torch.randint(0, 256, (3, frames, size, size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        want = backbone.forward(clips)
    found = backbone.prepare_for_inference(precision, "cuda")(clips)
    assert torch.cosine_similarity(found.flatten(1), want.flatten(1)).min() >= 0.999


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_the_first_convolution_as_torch_does() -> None:
    x = torch.randn(2, 3, 8, 30, 30, device="cuda")
    ours = FewChannelsConv3d(3, 16, 7, (1, 2, 2), 3, bias=False).cuda()
    plain = nn.Conv3d(3, 16, 7, (1, 2, 2), 3, bias=False).cuda()
    plain.load_state_dict(ours.state_dict())
    for conv in (ours, plain):
        with torch.autocast("cuda", torch.bfloat16):
            y = conv(x)
        y.float().square().mean().backward()
    assert ours.weight.grad is not None
    assert plain.weight.grad is not None
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, rtol=0.02, atol=1e-3)
