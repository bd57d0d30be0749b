"""`mastaf profile`: costs against an independent count, files that agree, and honest memory."""

import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mastaf.cache.errors import StoppedError
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.registry import load_backbone
from mastaf.fewshot.methods import METHODS
from mastaf.pipelines.cost_point import measure
from mastaf.pipelines.costs import profile
from mastaf.pipelines.errors import PipelineError

Mastaf = Callable[..., tuple[int, str, str]]
SMALL: dict[str, Any] = {"methods": ["mastaf"], "size": 32, "threads": 1, "repeats": 1}


def convolutions_by_hand(name: str, frames: int, size: int) -> float:
    """GFLOP of a network's convolutions: two for each weight that each output meets."""
    backbone, total = load_backbone(name, weights="random", frames=frames, size=size), [0]

    def count(module: Any, _given: Any, output: torch.Tensor) -> None:
        total[0] += 2 * output.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)

    for module in backbone.module.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):
            module.register_forward_hook(count)
    with torch.no_grad():
        backbone.forward(torch.zeros((1, frames, size, size, 3), dtype=torch.uint8))
    return total[0] / 1e9


def test_flops_and_parameters_are_those_of_a_count_by_hand(tmp_path: Path) -> None:
    found = profile(backbones=["r3d-tiny"], frames=[8, 16], way=4, out=tmp_path, **SMALL)
    assert [point["frames"] for point in found["points"]] == [8, 16]
    for point in found["points"]:
        assert point["backbone_gflop"] == pytest.approx(convolutions_by_hand("r3d-tiny", point["frames"], 32))
        c, t, h, w = point["cube"]
        pair = 2 * c * (t * h * w) ** 2 / 1e9  # the relation map of two cubes
        assert 4 * pair <= point["head_gflop"] <= 3 * (4 + 4 + 1) * pair  # pairs, classes and query with themselves
        assert point["gflop"] == pytest.approx(point["backbone_gflop"] + point["head_gflop"])
        assert point["episode_gflop"] == pytest.approx(5 * point["backbone_gflop"] + point["head_gflop"])
        assert point["peak_mb"] > point["idle_mb"] + 4 * point["backbone_parameters"] / 2**20
        assert point["ms_fastest"] <= point["ms_quartiles"][0] <= point["ms"] <= point["ms_quartiles"][1]
    net = load_backbone("r3d-tiny", weights="random").module
    assert found["points"][0]["backbone_parameters"] == sum(p.numel() for p in net.parameters())
    assert found["points"][0]["head_parameters"] > 0


@pytest.mark.parametrize("entry", BACKBONES)
def test_every_backbone_is_measured(tmp_path: Path, small_hub: dict[str, str], entry: str) -> None:
    found = profile(backbones=[small_hub[entry]], frames=[8], out=tmp_path, **SMALL)
    assert len(found["points"]) == 1
    assert all(point["backbone_gflop"] > 0 and point["ms"] > 0 for point in found["points"])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_measured(name: str) -> None:
    settings: dict[str, Any] = {"size": 32, "way": 5, "shot": 1, "precision": "fp32", "device": "cpu"}
    point = measure(backbone="r3d-tiny", method=name, frames=8, threads=None, repeats=1, **settings)
    assert point["head_ms"] > 0
    assert point["head_parameters"] >= 0


def test_memory_is_that_of_the_measured_process_alone(tmp_path: Path) -> None:
    ballast = np.ones(100 * 2**20)  # 800 MB in this process
    found = profile(backbones=["r3d-tiny"], frames=[8], out=tmp_path, **SMALL)
    assert found["points"][0]["peak_mb"] < ballast.nbytes / 2**20


def test_table_csv_json_and_plot_say_the_same(mastaf: Mastaf, tmp_path: Path) -> None:
    from matplotlib.image import imread

    arguments = ("--backbones", "r3d-tiny", "--methods", "mastaf", "--frames", "8:9", "--size", 32, "--threads", 1)
    status, said, _ = mastaf(
        "profile", *arguments, "--repeats", 2, "--out", tmp_path / "p", "--json", tmp_path / "p.json"
    )
    assert status == 0
    points = json.loads((tmp_path / "p.json").read_text())["points"]
    with (tmp_path / "p" / "profile.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["frames"]) for row in rows] == [point["frames"] for point in points] == [8, 9]
    for row, point in zip(rows, points, strict=True):
        assert row["system"] == point["system"] == "MASTAF-{R3D-TINY}"
        for name in ("gflop", "head_gflop", "ms", "peak_mb", "backbone_parameters"):
            assert float(row[name]) == point[name]
        line = next(line for line in said.splitlines() if line.startswith(f"| {point['system']} | {point['frames']} "))
        assert f" {point['gflop']:.2f} " in line
        assert f" {point['peak_mb']:.0f} " in line
    picture = imread(tmp_path / "p" / "profile.png")  # [height, width, rgba]
    assert picture.shape[1] > 2 * picture.shape[0]
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50


def test_without_matplotlib_the_rest_is_made(mastaf: Mastaf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ("--backbones", "r3d-tiny", "--frames", 8, "--size", 32, "--repeats", 1, "--out", tmp_path)
    status, said, _ = mastaf("profile", *arguments, "--json", tmp_path / "p.json")
    assert status == 0
    assert "no plot: the plot needs the package matplotlib; install it with: pip install 'mastaf[plots]'" in said
    assert (tmp_path / "profile.csv").is_file()
    assert not (tmp_path / "profile.png").exists()
    assert json.loads((tmp_path / "p.json").read_text())["plot"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--backbones", "r3d_tiny"), "did you mean r3d-tiny"),
        (("--methods", "mastav"), "did you mean mastaf"),
        (("--frames", "16:8"), "must be numbers of at least 1"),
        (("--frames", "0,8"), "must be numbers of at least 1"),
        (("--frames", "8:9:10"), "must be numbers of at least 1"),
        (("--frames", "many"), "such as 8,12,16 or 8:16"),
        (("--backbones", ","), "names separated by commas"),
    ],
)
def test_wrong_options_are_one_line_and_leave_nothing(
    mastaf: Mastaf, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    status, _, errors = mastaf("profile", "--out", tmp_path / "p", *options)
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert words in errors
    assert not (tmp_path / "p").exists()


def test_where_nothing_fits_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nothing could be measured: device \(cuda:99\) is not there"):
        profile(backbones=["r3d-tiny"], frames=[8], out=tmp_path, device="cuda:99", **SMALL)


def test_a_process_that_the_machine_ends_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(StoppedError, match="r3d-tiny at 8 frames was ended by signal 9"):
        profile(backbones=["r3d-tiny"], frames=[8], out=tmp_path, **SMALL)
