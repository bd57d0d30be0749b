"""Plug-ins: backbones that other distributions bring through the entry-point group `mastaf.backbones`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mastaf.cache import console
from mastaf.cache.store import open_store
from mastaf.extract.backbones import BACKBONES
from mastaf.extract.backbones.plugins import backbone_names, find_loader
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.cli import command
from mastaf.extract.errors import ExtractError

EXAMPLE = Path(__file__).parents[2] / "examples" / "backbone_plugin"
BIN = Path(sys.executable).parent

# A network of one convolution, and what its loader may get wrong: `{changes}` are lines after the Backbone is made.
SOURCE = """
from dataclasses import replace
from mastaf.extract.backbones.wrap import wrap_module
from mastaf.extract.decoding.pixels import pixel_rule
import torch
from torch import nn

def load(*, weights, frames, size, resize, layer, seed):
    made = wrap_module(
        name="one", build=lambda: nn.Sequential(nn.Conv3d(3, 4, 3, (2, 8, 8), 1)),
        pixels=pixel_rule(size or 16, resize=resize), frames=frames or 2, layer=layer, weights=weights or "random",
        seed=seed, advice="no file",
    )
    {changes}
    return made
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """`install(distribution, {name: target}, module=..., source=...)`: a distribution that importlib.metadata finds."""

    def make(distribution: str, points: dict[str, str], *, module: str = "", source: str = "") -> None:
        site = tmp_path / distribution
        info = site / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[mastaf.backbones]", *lines]) + "\n")
        if module:
            (site / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(site)

    before = set(sys.modules)
    yield make
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def install_one(install):
    """`install_one(changes)`: the network of SOURCE as the plug-in `one`."""
    return lambda changes="pass": install(
        "dist-one", {"one": "plug_one:load"}, module="plug_one", source=SOURCE.replace("{changes}", changes)
    )


def refusal(name: str = "one", **options) -> str:
    with pytest.raises(ExtractError) as caught:
        load_backbone(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def run_cli(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        console.run(command, [str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return leaving.value.code, out, err


@pytest.fixture
def videos(tmp_path, make_video):
    root = tmp_path / "videos"
    for name in ("walk/1.mp4", "walk/2.mp4", "run/1.mp4", "run/2.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(make_video("plain.mp4"), root / name)
    return root


def test_the_example_package_is_installed_extracted_with_and_verified(tmp_path, videos):
    """As a user does it: pip, then the command lines. Nothing is downloaded."""
    site = tmp_path / "site"
    source = shutil.copytree(EXAMPLE, tmp_path / "source")  # a build leaves files behind
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", site, source], check=True)
    environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def run(tool, *arguments):
        done = subprocess.run([BIN / tool, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "c3d-mini" in "".join(run("mastaf-extract", "--help").split())
    store = tmp_path / "cubes.zarr"
    line = ["--backbone", "c3d-mini", "--weights", "random", "--dataset", "folder", "--root", videos, "--out", store]
    out = run("mastaf-extract", *line, "--devices", "cpu")
    assert "cubes of 64 x 2 x 4 x 4 by c3d-mini at last, weights: random (seed 0)" in out
    run("mastaf-cache", "verify", store)
    header = open_store(store).header
    assert header.spec.backbone == "c3d-mini"
    assert header.spec.cube_shape == (64, 2, 4, 4)
    assert header.provenance["weights_facts"]["plugin"] == "mastaf-c3d-mini 1.0"


def test_names_are_listed_and_suggested_without_importing(install, capsys):
    install("dist-far", {"farnet": "far_module:load"}, module="far_module", source="raise SystemExit('imported')")
    assert backbone_names() == (*BACKBONES, "farnet")
    status, out, _ = run_cli(capsys, "--help")
    assert status == 0
    assert "farnet" in " ".join(out.split())
    status, _, err = run_cli(capsys, "--backbone", "farnett", "--dataset", "motion")
    assert status == 2
    assert "unknown backbone 'farnett'; did you mean farnet?" in err
    assert "far_module" not in sys.modules


def test_a_plugin_loads_like_a_name_of_the_table(install_one):
    install_one()
    one = load_backbone("one", frames=4, size=24, resize="short", seed=3)
    assert (one.name, one.frames, one.size, one.pixels.resize, one.layer) == ("one", 4, 24, "short", "0")
    assert one.cube_shape == (4, 2, 3, 3)
    assert one.facts == {"pretraining": [], "licence": "none", "plugin": "dist-one 1.5"}
    clips = torch.zeros((2, 4, 24, 24, 3), dtype=torch.uint8)
    assert one.forward(clips).shape == (2, 4, 2, 3, 3)


def test_a_built_in_name_cannot_be_taken_over(install):
    install("dist-bad", {"r3d-tiny": "nowhere:load"})
    assert refusal("r3d-tiny", weights="random").startswith(
        "backbone 'r3d-tiny' is built in, and distribution dist-bad 1.5 brings a plug-in of the same name; "
    )
    assert backbone_names() == tuple(BACKBONES)
    assert load_backbone("r3d", weights="random", frames=2, size=16).name == "r3d", "other names are not touched"


def test_two_plugins_of_one_name_are_an_error_that_names_both(install):
    install("dist-b", {"twin": "b:load"})
    install("dist-a", {"twin": "a:load"})
    assert "backbone 'twin' is brought by distribution dist-a 1.5 and distribution dist-b 1.5; uninstall" in refusal(
        "twin"
    )
    assert backbone_names().count("twin") == 1


@pytest.mark.parametrize("name", ["hub:net", "a/b", "..", "a b"])
def test_names_that_are_no_plain_words_are_refused(install, name):
    install("dist-odd", {name: "odd:load"})
    assert "must have a name of letters, digits, '.', '_' and '-'" in refusal(name)


@pytest.mark.parametrize(
    ("target", "source", "reason"),
    [
        ("absent_module:load", "", "ModuleNotFoundError: No module named 'absent_module'"),
        ("broken:load", "import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("broken:load", "def load(:", "SyntaxError: "),
        ("broken:load", "raise KeyError('a\\nb')", "KeyError: "),
        ("broken:load", "load = 3", "TypeError: load is no function"),
        ("broken:lood", "def load(): pass", "AttributeError: module 'broken' has no attribute 'lood'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_one_line_when_asked_for(install, target, source, reason):
    install("dist-x", {"broken": target}, module="broken", source=source)
    assert "broken" in backbone_names()
    assert load_backbone("r3d-tiny").name == "r3d-tiny"
    line = refusal("broken")
    assert line.startswith(f"backbone 'broken' of distribution dist-x 1.5 cannot be imported from {target} ({reason}")
    assert line.endswith("mend or uninstall that distribution")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("return None", "plug_one:load must return a Backbone, but gave NoneType"),
        ("made = replace(made, name='two')", "the Backbone's name ('two') must be its entry point's"),
        ("made = replace(made, weights_sha256='abc')", "weights_sha256 ('abc') must be 64 hex digits"),
        ("made = replace(made, cube_shape=(4, 1, 2))", "cube_shape ((4, 1, 2)) must be four positive whole numbers"),
        ("made = replace(made, cube_shape=(4, 1, 2, 0))", "cube_shape ((4, 1, 2, 0)) must be four positive"),
        ("made = replace(made, cube_shape=(4, 1, 2, 2.0))", "cube_shape ((4, 1, 2, 2.0)) must be four positive"),
        ("made = replace(made, facts={})", "facts ({}) must have a list `pretraining` and a text `licence`"),
        ("made = replace(made, facts={'a': {1}})", "facts must be plain JSON values (TypeError: "),
        ("raise RuntimeError('out\\nof luck')", "failed to load (RuntimeError: out of luck): plug_one:load must take"),
    ],
)
def test_what_a_plugin_returns_is_checked(install_one, changes, words):
    install_one(changes)
    line = refusal()
    assert line.startswith("backbone 'one' of distribution dist-one 1.5")
    assert words in line


def test_a_loader_with_other_arguments_is_one_line(install):
    install("dist-x", {"few": "few:load"}, module="few", source="def load(weights): pass")
    assert "must take weights, frames, size, resize, layer, seed by name" in refusal("few")


def test_the_words_of_a_plugins_own_error_are_kept(install_one):
    install_one("from mastaf.extract.errors import ExtractError; raise ExtractError('size (16) must be 24')")
    assert refusal() == "size (16) must be 24"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ("made = replace(made, cube_shape=(4, 2, 2, 2))", "at 0 declares cubes of 4 x 2 x 2 x 2, gave 4 x 1 x 2 x 2"),
        ("made.module.net[0].weight.data[0] = torch.nan", "must give finite numbers"),
        ("made.module.net[0].forward = lambda x: x.mean(dim=2)", "must give [2, c, t, h, w], but gave [2, 3, 16, 16]"),
        ("made.module.net[0].forward = lambda x: x[:1]", "must give [2, c, t, h, w], but gave [1, 3, 2, 16, 16]"),
        (
            "made.module.net[0].forward = lambda x: (x,)",
            "must give a tensor [b, c, t, h, w], but gave tuple",
        ),
        ("made.module.net[0].forward = lambda x: 1 / 0", "failed: ZeroDivisionError: division by zero; "),
    ],
)
def test_a_network_that_does_not_keep_its_word_is_one_line_before_there_is_a_store(
    install_one, videos, tmp_path, capsys, changes, words
):
    install_one(changes)
    out = tmp_path / "cubes.zarr"
    line = ("--backbone", "one", "--dataset", "folder", "--root", videos, "--out", out, "--devices", "cpu")
    status, _, err = run_cli(capsys, *line)
    (error,) = [line for line in err.splitlines() if line]
    assert status == 2
    assert error.startswith("error: backbone 'one' ")
    assert words in error
    assert not out.exists()


def test_a_plugins_extraction_says_so_in_json(install_one, videos, tmp_path, capsys):
    install_one()
    line = (
        "--backbone",
        "one",
        "--dataset",
        "folder",
        "--root",
        videos,
        "--out",
        tmp_path / "x.h5",
        "--devices",
        "cpu",
    )
    status, _, err = run_cli(capsys, *line, "--json", tmp_path / "x.json")
    assert status == 0, err
    assert json.loads((tmp_path / "x.json").read_text())["failed"] == 0
    assert find_loader("one").distribution == "dist-one 1.5"
