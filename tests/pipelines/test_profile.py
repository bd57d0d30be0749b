"""`mastaf profile`: costs against an independent count, files that agree, and honest memory."""

import csv
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mastaf.cache.errors import StoppedError
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.registry import load_backbone
from mastaf.fewshot.methods import METHODS
from mastaf.pipelines.cli import cli
from mastaf.pipelines.cost_point import measure
from mastaf.pipelines.costs import profile
from mastaf.pipelines.errors import PipelineError

Mastaf = Callable[..., tuple[int, str, str]]
SIZE, BALLAST = 32, 800 * 2**20
ONE: dict[str, Any] = {"size": SIZE, "way": 5, "shot": 1, "precision": "fp32", "device": "cpu", "repeats": 1}


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


@dataclass(frozen=True)
class Profiled:
    """One run of the command: what it said, its points, its folder."""

    said: str
    points: list[dict[str, Any]]
    out: Path


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    """r3d-tiny with MASTAF at 8 and 9 frames, 4 ways, measured while this process holds BALLAST bytes."""
    folder = tmp_path_factory.mktemp("profile")
    arguments = f"profile --backbones r3d-tiny --methods mastaf --frames 8:9 --size {SIZE} --threads 1 --way 4"
    arguments += f" --repeats 2 --out {folder / 'p'} --json {folder / 'p.json'}"
    ballast = np.ones(BALLAST // 8)
    done = CliRunner().invoke(cli, arguments.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert ballast.nbytes == BALLAST
    return Profiled(done.output, json.loads((folder / "p.json").read_text())["points"], folder / "p")


def test_flops_and_parameters_are_those_of_a_count_by_hand(profiled: Profiled) -> None:
    assert [point["frames"] for point in profiled.points] == [8, 9]
    for point in profiled.points:
        assert point["backbone_gflop"] == pytest.approx(convolutions_by_hand("r3d-tiny", point["frames"], SIZE))
        c, t, h, w = point["cube"]
        pair = 2 * c * (t * h * w) ** 2 / 1e9  # the relation map of two cubes
        assert 4 * pair <= point["head_gflop"] <= 3 * (4 + 4 + 1) * pair  # pairs, classes and query with themselves
        assert point["gflop"] == pytest.approx(point["backbone_gflop"] + point["head_gflop"])
        assert point["episode_gflop"] == pytest.approx(5 * point["backbone_gflop"] + point["head_gflop"])
        assert point["peak_mb"] > point["idle_mb"] + 4 * point["backbone_parameters"] / 2**20
        assert point["ms_fastest"] <= point["ms_quartiles"][0] <= point["ms"] <= point["ms_quartiles"][1]
    net = load_backbone("r3d-tiny", weights="random").module
    assert profiled.points[0]["backbone_parameters"] == sum(p.numel() for p in net.parameters())
    assert profiled.points[0]["head_parameters"] > 0


@pytest.mark.parametrize("entry", BACKBONES)
def test_every_backbone_is_measured(small_hub: dict[str, str], entry: str) -> None:
    point = measure(backbone=small_hub[entry], method="mastaf", frames=8, threads=None, **ONE)
    assert point["backbone_gflop"] > 0
    assert point["ms"] > 0


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_measured(name: str) -> None:
    point = measure(backbone="r3d-tiny", method=name, frames=8, threads=None, **ONE)
    assert point["head_ms"] > 0
    assert point["head_parameters"] >= 0


def test_memory_is_that_of_the_measured_process_alone(profiled: Profiled) -> None:
    assert all(point["peak_mb"] < BALLAST / 2**20 for point in profiled.points)


def test_table_csv_json_and_plot_say_the_same(profiled: Profiled) -> None:
    from matplotlib.image import imread

    with (profiled.out / "profile.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["frames"]) for row in rows] == [point["frames"] for point in profiled.points] == [8, 9]
    for row, point in zip(rows, profiled.points, strict=True):
        assert row["system"] == point["system"] == "MASTAF-{R3D-TINY}"
        for name in ("gflop", "head_gflop", "ms", "peak_mb", "backbone_parameters"):
            assert float(row[name]) == point[name]
        start = f"| {point['system']} | {point['frames']} "
        line = next(line for line in profiled.said.splitlines() if line.startswith(start))
        assert f" {point['gflop']:.2f} " in line
        assert f" {point['peak_mb']:.0f} " in line
    picture = imread(profiled.out / "profile.png")  # [height, width, rgba]
    assert picture.shape[1] > 2 * picture.shape[0]
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50


def _python(path: Path, script: str) -> str:
    """In place of the interpreter that measures a point: a shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_without_matplotlib_the_rest_is_made(
    mastaf: Mastaf, profiled: Profiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "point.json").write_text(json.dumps(profiled.points[0]))
    monkeypatch.setattr(sys, "executable", _python(tmp_path / "python", f"cat '{tmp_path}/point.json'"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ("--backbones", "r3d-tiny", "--methods", "mastaf", "--frames", 8, "--out", tmp_path)
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
        profile(backbones=["r3d-tiny"], methods=["mastaf"], frames=[8], size=SIZE, out=tmp_path, device="cuda:99")


def test_a_process_that_the_machine_ends_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", _python(tmp_path / "python", "kill -9 $$"))
    with pytest.raises(StoppedError, match="r3d-tiny at 8 frames was ended by signal 9"):
        profile(backbones=["r3d-tiny"], methods=["mastaf"], frames=[8], out=tmp_path)
