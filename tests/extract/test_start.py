"""What a run does before its first batch: the network is tried no more often than its guarantees need."""

import threading

import pytest
import torch
from mastaf.cache.store import open_store
from mastaf.extract.backbones.base import Backbone, StagedNet
from mastaf.extract.decoding.pixels import pixel_rule
from mastaf.extract.engine import pipeline
from mastaf.extract.run import extract

BATCH = 4


class Watched(StagedNet):
    """A convolution with its BatchNorm. `passes`: (clips, type, whether the store is there, whether a video was asked
    for) of each pass, also of copies."""

    def __init__(self, passes, look):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv3d(3, 4, 3, padding=1, bias=False)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator)
        self.norm = torch.nn.BatchNorm3d(4)
        self.norm.running_var.fill_(3.0)
        self.pool = torch.nn.AdaptiveAvgPool3d(2)
        self.look = lambda x: passes.append((len(x), x.dtype, *look()))
        self.eval()

    def stages(self):
        return {"whole": torch.nn.Sequential(self.conv, self.norm, self.pool)}

    def outputs(self, x, layers, *, after=None):
        self.look(x)
        return super().outputs(x, layers, after=after)


@pytest.fixture
def tried(tmp_path, tiny_videos, tiny_decoder, monkeypatch):
    """`tried(precision)`: extract with it, and the passes before the first batch."""
    asked = threading.Event()

    def decode(path, **how):
        asked.set()
        return tiny_decoder(path, **how)

    monkeypatch.setattr(pipeline, "decode_clip", decode)
    out, passes = tmp_path / "s.zarr", []

    def look():
        return out.exists(), asked.wait(5 if out.exists() else 0)  # a first video is asked for at once

    backbone = Backbone(
        name="watched",
        frames=4,
        pixels=pixel_rule(8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        layer="whole",
        cube_shape=(4, 2, 2, 2),
        weights_sha256="a" * 64,
        weights_source="made for a test",
        module=Watched(passes, look),
    )

    def run(precision):
        passes.clear()
        how = {"precision": precision, "device": "cpu", "progress": False, "shard_rows": 8, "batch": BATCH}
        extract(tiny_videos(23), backbone, out=out, limit=6 if not out.exists() else None, **how)
        return [found for found in passes if found[0] != BATCH]

    run.out = out
    return run


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_network_is_tried_as_it_is_and_as_it_will_be_used(tried, precision, dtype):
    first = tried(precision)
    assert first == [(2, torch.float32, False, False), (2, dtype, True, True)]  # and videos are decoded meanwhile
    assert open_store(tried.out).states().sum() == 6
    assert tried(precision) == [(2, torch.float32, True, True), (2, dtype, True, True)]
