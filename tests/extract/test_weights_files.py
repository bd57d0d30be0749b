"""Weights files of every make: which network they look like, where they are looked for, what a refusal says."""

import os
import pickle
from itertools import permutations
from pathlib import Path

import pytest
import torch
from mastaf.extract.backbones.looks_like import looks_like
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError
from safetensors.torch import save_file

DEPTHS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}


@pytest.fixture(scope="module")
def state():
    return load_backbone("r3d-tiny").module.state_dict()


def refusal(weights, name="r3d") -> str:
    with pytest.raises(ExtractError) as caught:
        load_backbone(name, weights=str(weights))
    line = str(caught.value)
    assert "\n" not in line
    return line


def empty(*names: str, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A state dict of these names; the shape of those that matter is given under `name__with__dots`."""
    given = {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}
    return given | {name: torch.zeros(1) for name in names}


def residual_blocks(depth: int, suffix: str = ".weight", *, stage="layer{}.{}", first=1) -> list[str]:
    kind, counts = DEPTHS[depth]
    convolutions = (1, 2, 3) if kind == "bottleneck" else (1, 2)
    return [
        f"{stage.format(number, block)}.conv{convolution}{suffix}"
        for number, count in enumerate(counts, first)
        for block in range(count)
        for convolution in convolutions
    ]


@pytest.mark.parametrize("prefix", ["", "backbone.", "model."])
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("kernel", "kind"), [((7, 7), "2D"), ((7, 7, 7), "3D")])
def test_residual_networks_are_named_by_dimension_and_depth(depth, kernel, kind, prefix):
    names = ["conv1.weight", "bn1.weight", *residual_blocks(depth), "fc.weight"]
    tensors = empty(*(prefix + name for name in names)) | {f"{prefix}conv1.weight": torch.zeros(64, 3, *kernel)}
    assert looks_like(tensors) == f"a {kind} ResNet-{depth}"


@pytest.mark.parametrize("depth", [18, 50])
def test_residual_networks_of_transformers_are_named(depth):
    kind, counts = DEPTHS[depth]
    names = [
        f"resnet.encoder.stages.{stage}.layers.{block}.layer.{part}.convolution.weight"
        for stage, count in enumerate(counts)
        for block in range(count)
        for part in range(3 if kind == "bottleneck" else 2)
    ]
    stem = empty(resnet__embedder__embedder__convolution__weight=(64, 3, 7, 7))
    assert looks_like(stem | empty(*names)) == f"a 2D ResNet-{depth}"


def test_networks_of_convolutions_in_two_parts_are_named():
    of_hara = [*residual_blocks(50, "_s.weight"), *residual_blocks(50, "_t.weight"), *residual_blocks(50)]
    assert looks_like(empty(*of_hara, conv1_s__weight=(110, 3, 1, 7, 7))) == "a R(2+1)D-50"
    of_torchvision = residual_blocks(18, ".0.0.weight")
    stem = {"stem.0.weight": torch.zeros(45, 3, 1, 7, 7), "stem.3.weight": torch.zeros(64, 45, 3, 1, 1)}
    assert looks_like(stem | empty(*of_torchvision)) == "a R(2+1)D-18"
    assert looks_like({"stem.0.weight": torch.zeros(64, 3, 3, 7, 7)} | empty(*of_torchvision)) == "a 3D ResNet-18"


@pytest.mark.parametrize(
    ("patches", "kernel", "block", "words"),
    [
        ("vit.embeddings.patch_embeddings.projection", (16, 16), "vit.encoder.layer.{}.output", "patches of 16 x 16"),
        ("vivit.embeddings.patch_embeddings.projection", (2, 16, 16), "vivit.encoder.layer.{}.output", "tubelets of 2"),
        ("encoder.embeddings.patch_embeddings.proj", (2, 16, 16), "encoder.layer.{}.mlp.fc1", "tubelets of 2 x 16 x"),
        ("vision_model.embeddings.patch_embedding", (32, 32), "vision_model.encoder.layers.{}.mlp", "of 32 x 32"),
        ("patch_embed.proj", (14, 14), "blocks.{}.attn.qkv", "patches of 14 x 14"),
    ],
)
def test_vision_transformers_are_named_by_their_sizes(patches, kernel, block, words):
    tensors = {f"{patches}.weight": torch.zeros(6, 3, *kernel)} | empty(
        *(block.format(n) + ".weight" for n in range(9))
    )
    tensors |= empty("text_model.encoder.layers.11.mlp.weight", "predictor.layer.10.mlp.weight")
    line = looks_like(tensors)
    assert line.startswith("a vision transformer (ViT) of 9 blocks, width 6, ")
    assert words in line


def test_what_is_not_known_is_shown_by_its_first_entries():
    assert (
        looks_like(empty("blocks.0.a", "head.b", "c"))
        == "no network known here (its first entries: blocks.0.a, head.b)"
    )
    assert looks_like({"conv1.weight": torch.zeros(3)}).startswith("no network known here")
    assert looks_like({}) == "no network known here (its first entries: none)"


@pytest.mark.parametrize("name", ["r3d", "r3d-tiny"])
def test_every_backbone_says_what_a_foreign_file_looks_like(tmp_path, name):
    names = empty(*residual_blocks(50), conv1__weight=(64, 3, 7, 7))
    torch.save(names, tmp_path / "resnet50.pth")
    assert "the file looks like a 2D ResNet-50; " in refusal(tmp_path / "resnet50.pth", name)


def test_the_folders_of_a_path_list_are_searched_in_order(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / name for name in ("none", "one", "two")]
    monkeypatch.setenv("MASTAF_WEIGHTS", os.pathsep.join(["", *map(str, folders), ""]))
    line = refusal("tiny.safetensors", "r3d-tiny")
    assert " or ".join(["(tiny.safetensors", *(f"{folder}/tiny.safetensors" for folder in folders)]) in line
    for folder in reversed(folders[1:]):
        folder.mkdir()
        save_file(state, folder / "tiny.safetensors")
        assert load_backbone("r3d-tiny", weights="tiny.safetensors").weights_source == str(folder / "tiny.safetensors")
    save_file(state, tmp_path / "tiny.safetensors")
    assert load_backbone("r3d-tiny", weights="tiny.safetensors").weights_source == "tiny.safetensors"


def test_a_home_folder_in_the_path_list_is_found(tmp_path, monkeypatch, state):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MASTAF_WEIGHTS", "~/weights")
    (tmp_path / "weights").mkdir()
    save_file(state, tmp_path / "weights" / "tiny.safetensors")
    assert (
        load_backbone("r3d-tiny", weights="tiny.safetensors").weights_sha256 == load_backbone("r3d-tiny").weights_sha256
    )


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def failing(kind: str, folder: Path, state: dict[str, torch.Tensor]) -> Path:
    """A file that must be refused."""
    path = folder / "x.pth"
    if kind == "code":
        path.write_bytes(pickle.dumps({"a": Code(folder / "ran")}, protocol=2))
    elif kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no weights")
    elif kind == "empty":
        torch.save({"epoch": 1}, path)
    elif kind == "torn":
        save_file(state, path)
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "foreign":
        torch.save({"a": torch.zeros(2)}, path)
    elif kind == "nan":
        torch.save(state | {"bn1.bias": torch.full_like(state["bn1.bias"], torch.nan)}, path)
    elif kind == "ours":
        save_file(state, path, metadata={"mastaf": '{"backbone": "r3d"}'})
    return path


@pytest.mark.parametrize("kind", ["code", "folder", "text", "empty", "torn", "foreign", "nan", "ours", "absent"])
def test_every_refusal_says_where_to_get_the_file_and_where_to_put_it(tmp_path, kind, state):
    path = failing(kind, tmp_path, state)
    assert "leave --weights out" in refusal(path, "r3d-tiny")
    line = refusal(path, "r3d")
    for words in ("https://github.com/kenshohara/3D-ResNets-PyTorch", "--weights FILE", "$MASTAF_WEIGHTS", str(path)):
        assert words in line
    assert line.count("https://") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("prefixes", [(), *permutations(("module.", "_orig_mod."))])
@pytest.mark.parametrize("wrappers", [(), ("state_dict",), ("model_state_dict",), ("model",), ("model", "state_dict")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_variants_of_a_file_are_the_same_weights(tmp_path, state, prefixes, wrappers, dtype):
    content = {
        "".join(prefixes) + name: value.to(dtype) if value.is_floating_point() else value
        for name, value in state.items()
    }
    for wrapper in reversed(wrappers):
        content = {wrapper: content, "epoch": 3, "optimizer": {"lr": 0.1}}
    torch.save(content, tmp_path / "x.pth")
    assert (
        load_backbone("r3d-tiny", weights=str(tmp_path / "x.pth")).weights_sha256
        == load_backbone("r3d-tiny").weights_sha256
    )


def test_a_file_that_holds_itself_is_refused(tmp_path):
    content: dict = {}
    content["model"] = content
    torch.save(content, tmp_path / "x.pth")
    assert "hold no tensors" in refusal(tmp_path / "x.pth")
