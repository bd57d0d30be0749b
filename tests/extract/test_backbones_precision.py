"""A precision that the machine computes wrongly is refused, whatever the reason."""

import pytest
import torch
from mastaf.extract.backbones import inference
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.engine.surroundings import look_around
from mastaf.extract.errors import ExtractError

CPU = torch.device("cpu")


@pytest.fixture
def tiny():
    return load_backbone("r3d-tiny", weights=None)


@pytest.mark.parametrize("wrong", [torch.zeros_like, lambda x: x * torch.nan, lambda x: x.flip(1)])
def test_wrong_low_precision_convolutions_are_noticed(tiny, monkeypatch, wrong) -> None:
    right = torch.nn.Conv3d.forward

    def forward(self, x):
        y = right(self, x)
        return wrong(y) if x.dtype == torch.bfloat16 else y

    monkeypatch.setattr(torch.nn.Conv3d, "forward", forward)
    tiny.prepare_for_inference("fp32", CPU)
    with pytest.raises(ExtractError, match=r"precision \(bf16\) gives wrong cubes of r3d-tiny.*--precision fp32"):
        tiny.prepare_for_inference("bf16", CPU)


@pytest.mark.parametrize("frames", [1, 2, 16])
def test_what_is_prepared_is_right_or_refused(frames) -> None:
    backbone = load_backbone("r3d-tiny", weights="random", frames=frames)
    clips = torch.randint(0, 256, (2, frames, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    exact = backbone.prepare_for_inference("fp32", CPU)(clips)
    try:
        found = backbone.prepare_for_inference("bf16", CPU)(clips)
    except ExtractError:
        return
    assert (found - exact).norm() <= 0.1 * exact.norm()


def test_bfloat16_is_not_chosen_for_a_single_frame(monkeypatch) -> None:
    monkeypatch.setattr(inference, "cpu_has_bf16", lambda: True)
    assert [look_around("cpu", "auto", frames).precision for frames in (1, 2)] == ["fp32", "bf16"]
