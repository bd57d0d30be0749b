"""Every backbone of the table through `mastaf-extract`, from video files and frame folders to a store that verifies."""

import json
import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from mastaf.cache import console
from mastaf.cache.store import open_store
from mastaf.cache.verify import verify_store
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.cli import command


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two classes: one has a video file, the other a folder of frames."""
    root = tmp_path_factory.mktemp("videos")
    (root / "sit").mkdir()
    (root / "walk" / "2").mkdir(parents=True)
    for pattern, out in (("testsrc", root / "sit" / "1.mp4"), ("testsrc2", root / "walk" / "2" / "%d.png")):
        source = ("-f", "lavfi", "-i", f"{pattern}=size=48x32:rate=8:duration=1")
        subprocess.run([get_ffmpeg_exe(), "-v", "error", "-nostdin", *source, out], check=True)
    return root


@pytest.fixture
def extract(root, tmp_path):
    def run(backbone, *arguments, out="s.zarr", weights="random"):
        common = ("--dataset", "folder", "--root", root, "--devices", "cpu", "--frames", 8, "--size", 32)
        line = ("--backbone", backbone, "--weights", weights, "--out", tmp_path / out, *common, *arguments)
        report = tmp_path / "report.json"
        with pytest.raises(SystemExit) as left:
            console.run(command, [*map(str, line), "--json", str(report)])
        return left.value.code, json.loads(report.read_text()) if left.value.code == 0 else None

    return run


@pytest.mark.parametrize("entry", list(BACKBONES))
def test_every_name_extracts(extract, small_hub, tmp_path, entry):
    name = small_hub[entry]
    status, report = extract(name)
    assert status == 0
    assert (report["done"], report["failed"]) == (2, 0)
    store = open_store(tmp_path / "s.zarr")
    assert verify_store(store) == []
    assert store.spec.backbone == name
    assert store.spec.cube_shape == load_backbone(name, weights="random", frames=8, size=32).cube_shape
    assert np.abs(store.read_shard(0)).max() > 0


def test_layers_and_time_are_recorded_and_several_layers_are_several_stores(extract, tmp_path):
    status, report = extract("tsn", "--layer", "stage3,stage4", "--time", "mean", out="cubes.h5")
    assert status == 0
    assert [store["store"] for store in report["stores"]] == [
        str(tmp_path / "cubes_stage3.h5"),
        str(tmp_path / "cubes_stage4.h5"),
    ]
    third, fourth = (open_store(tmp_path / f"cubes_stage{number}.h5") for number in (3, 4))
    assert (third.spec.layer, third.spec.time, third.spec.cube_shape) == ("stage3", "mean", (1024, 1, 2, 2))
    assert (fourth.spec.layer, fourth.spec.time, fourth.spec.cube_shape) == ("stage4", "mean", (2048, 1, 1, 1))
    assert third.spec.weights == fourth.spec.weights
    assert third.spec.recipe != fourth.spec.recipe
    assert extract("tsn", "--layer", "stage4", "--time", "mean", out="alone.h5")[0] == 0
    assert (fourth.read_shard(0) == open_store(tmp_path / "alone.h5").read_shard(0)).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--layer", "layer9"), "layer ('layer9') of backbone 'r3d-tiny' must be one of stem, layer1"),
        (("--layer", "layer4,layer9"), "layer ('layer9') of backbone 'r3d-tiny' must be one of stem, layer1"),
        (("--layer", "layer4,layer4"), "layer (layer4,layer4) must name each stage once"),
        (("--time", "sum"), "'sum' is not one of 'keep', 'mean'"),
        (("--revision", "v1"), "revision (v1) is for weights of the hub, which 'r3d-tiny' has not"),
    ],
)
def test_wrong_layers_times_and_revisions_are_one_line(extract, capsys, tmp_path, arguments, words):
    assert extract("r3d-tiny", *arguments) == (2, None)
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("*.zarr"))


def test_cubes_of_another_layer_time_or_model_are_another_recipe(extract, capsys, small_hub):
    assert extract("hf:tiny-encoder")[0] == 0
    for arguments, words in (
        (("--layer", "block1"), "layer: last in the first, block1 in the second"),
        (("--time", "mean"), "time: keep in the first, mean in the second"),
    ):
        assert extract("hf:tiny-encoder", *arguments)[0] == 2
        assert words in capsys.readouterr().err
