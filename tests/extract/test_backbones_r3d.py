"""R3D-50 and its checkpoints: architecture, key names, and every way in which a file can be wrong."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mastaf.extract.backbones.base import Backbone
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.backbones.weights import write_weights
from mastaf.extract.errors import ExtractError
from safetensors.torch import save_file

BLOCKS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)


def hara_shapes(n_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint of 3D-ResNets-PyTorch's R3D-50, written out by hand."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7, 7)}

    def batch_norm(name: str, width: int) -> None:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{entry}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    batch_norm("bn1", 64)
    c_in = 64
    for layer, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), 1):
        for block in range(count):
            name = f"layer{layer}.{block}"
            shapes[f"{name}.conv1.weight"] = (width, c_in, 1, 1, 1)
            shapes[f"{name}.conv2.weight"] = (width, width, 3, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * width, width, 1, 1, 1)
            for number, size in ((1, width), (2, width), (3, 4 * width)):
                batch_norm(f"{name}.bn{number}", size)
            if block == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * width, c_in, 1, 1, 1)
                batch_norm(f"{name}.downsample.1", 4 * width)
            c_in = 4 * width
    shapes["fc.weight"], shapes["fc.bias"] = (n_classes, 2048), (n_classes,)
    return shapes


def hara_state(n_classes: int = 1139) -> dict[str, torch.Tensor]:
    """Such a checkpoint in float16. Every row of a tensor is the same, so that it is quickly made; BatchNorm passes
    values of a usual size on."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in hara_shapes(n_classes).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif len(shape) == 5:
            fan_in = shape[1] * shape[2] * shape[3] * shape[4]
            row = torch.randn(shape[1:], generator=generator) * (2 / fan_in) ** 0.5
            state[name] = (row * torch.linspace(-1, 1.5, shape[0])[:, None, None, None, None]).half()
        else:
            state[name] = (0.75 + 0.5 * torch.rand(shape, generator=generator)).half()
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return hara_state()


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Iterator[Path]:
    """The file as its authors write it: wrapped, with optimiser and scheduler, from DataParallel."""
    path = tmp_path_factory.mktemp("hara") / "r3d50_KMS_200ep.pth"
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [50, 100, 150])
    torch.save(
        {
            "epoch": 200,
            "arch": "resnet-50",
            "state_dict": {f"module.{name}": tensor for name, tensor in state.items()},
            "optimizer": optimiser.state_dict(),
            "scheduler": scheduler.state_dict(),
        },
        path,
    )
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("r3d-tiny", weights="random")


@pytest.fixture(autouse=True)
def no_big_files_stay(tmp_path):
    """pytest keeps the folders of the last three runs; these files are 100 MB each."""
    yield
    for path in tmp_path.iterdir():
        path.unlink()


def load(weights: object, **options):
    return load_backbone("r3d", weights=str(weights), **({"frames": 8, "size": 32} | options))


def test_the_checkpoint_has_the_published_counts():
    shapes = hara_shapes(1139)
    assert len(shapes) == 320
    trunk = [shape for name, shape in shapes.items() if not name.startswith("fc") and name.endswith(("weight", "bias"))]
    assert len(trunk) == 159
    assert sum(torch.Size(shape).numel() for shape in trunk) == 46_198_976


def test_the_network_has_exactly_the_trunk_of_the_checkpoint():
    r3d = load_backbone("r3d", weights="random")
    own = {name: tuple(value.shape) for name, value in r3d.module.state_dict().items()}
    assert own == {name: shape for name, shape in hara_shapes(1139).items() if not name.startswith("fc")}
    assert sum(p.numel() for p in r3d.module.parameters()) == 46_198_976
    assert (r3d.frames, r3d.size, r3d.layer, r3d.cube_shape) == (16, 224, "layer4", (2048, 1, 7, 7))
    assert r3d.pixels.mean == (0.4345, 0.4051, 0.3775)
    assert r3d.pixels.std == (0.2768, 0.2713, 0.2737)


@pytest.mark.parametrize(
    ("frames", "size", "layer", "cube"),
    [
        (32, 224, None, (2048, 2, 7, 7)),
        (64, 224, None, (2048, 4, 7, 7)),
        (16, 112, None, (2048, 1, 4, 4)),
        (16, 224, "layer3", (1024, 2, 14, 14)),
        (16, 224, "layer2", (512, 4, 28, 28)),
        (16, 224, "layer1", (256, 8, 56, 56)),
        (16, 224, "stem", (64, 8, 56, 56)),
    ],
)
def test_published_sizes(frames, size, layer, cube):
    assert load("random", frames=frames, size=size, layer=layer).cube_shape == cube


def test_the_authors_file_loads_bit_for_bit(checkpoint, state):
    r3d = load(checkpoint)
    loaded = r3d.module.state_dict()
    assert set(loaded) == {name for name in state if not name.startswith("fc.")}
    for name, tensor in loaded.items():
        assert torch.equal(tensor, state[name].to(tensor.dtype)), name
        assert tensor.dtype == (torch.int64 if name.endswith("tracked") else torch.float32)
    assert r3d.facts == {
        "pretraining": ["Kinetics-700", "Moments in Time", "STAIR Actions"],
        "pretraining_classes": 1139,
        "variant": "KMS",
        "licence": "MIT",
    }
    assert r3d.weights_source == str(checkpoint)


def test_bare_safetensors_and_wrapped_files_are_the_same_weights(checkpoint, state, tmp_path):
    trunk = {name: value.contiguous() for name, value in state.items() if not name.startswith("fc.")}
    save_file(trunk, tmp_path / "bare.safetensors")
    torch.save({k: v for k, v in trunk.items() if not k.endswith("tracked")}, tmp_path / "old.pth")
    digests = {load(path).weights_sha256 for path in (checkpoint, tmp_path / "bare.safetensors", tmp_path / "old.pth")}
    assert len(digests) == 1
    trunk["layer4.2.bn3.bias"] = trunk["layer4.2.bn3.bias"] + 1
    save_file(trunk, tmp_path / "changed.safetensors")
    assert load(tmp_path / "changed.safetensors").weights_sha256 not in digests


@pytest.mark.parametrize(
    ("n_classes", "variant"), [(700, "K"), (1039, "KM"), (439, "MS"), (339, "M"), (800, "KS"), (100, "S"), (51, None)]
)
def test_the_class_count_tells_what_the_weights_saw(state, tmp_path, n_classes, variant):
    changed = dict(state) | {"fc.weight": torch.zeros(n_classes, 2048), "fc.bias": torch.zeros(n_classes)}
    save_file(changed, tmp_path / "r3d50.safetensors")
    facts = load(tmp_path / "r3d50.safetensors").facts
    assert facts.get("variant") == variant
    assert facts["pretraining_classes"] == n_classes


def test_the_folder_of_weights_is_searched(checkpoint, monkeypatch):
    monkeypatch.setenv("MASTAF_WEIGHTS", str(checkpoint.parent))
    by_default = load_backbone("r3d", weights=None, frames=8, size=32)
    by_name = load(checkpoint.name)
    assert by_default.weights_sha256 == by_name.weights_sha256 == load(checkpoint).weights_sha256


def refused(weights: object, *words: str, name: str = "r3d") -> None:
    with pytest.raises(ExtractError) as caught:
        load_backbone(name, weights=None if weights is None else str(weights))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 700
    for word in words:
        assert word in line, line


def test_without_weights_it_says_where_they_come_from(monkeypatch):
    monkeypatch.delenv("MASTAF_WEIGHTS", raising=False)
    refused(None, "r3d50_KMS_200ep.pth", "3D-ResNets-PyTorch", "--weights FILE", "MASTAF_WEIGHTS")


def test_another_depth_is_named(tmp_path):
    shapes = {"conv1.weight": (64, 3, 7, 7, 7)}
    for layer, count in enumerate((2, 2, 2, 2), 1):
        for block in range(count):
            for number in (1, 2):
                shapes[f"layer{layer}.{block}.conv{number}.weight"] = (4, 4, 1, 1, 1)
    torch.save({"state_dict": {k: torch.zeros(v) for k, v in shapes.items()}}, tmp_path / "r18.pth")
    refused(tmp_path / "r18.pth", "missing (bn1.weight", "of another shape", "looks like a 3D ResNet-18", "...")


def test_a_two_dimensional_network_is_named(tmp_path):
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "r50.pth")
    refused(tmp_path / "r50.pth", "conv1.weight is (64, 3, 7, 7), not (64, 3, 7, 7, 7)", "looks like a 2D network")


def test_an_unexpected_entry_is_named(state, tmp_path):
    torch.save(dict(state) | {"layer5.0.conv1.weight": torch.zeros(2)}, tmp_path / "more.pth")
    refused(tmp_path / "more.pth", "1 unexpected (layer5.0.conv1.weight)", "looks like a 3D ResNet-50")


def test_nan_weights_are_refused(state, tmp_path):
    broken = dict(state) | {"layer3.5.conv2.weight": torch.full((256, 256, 3, 3, 3), float("nan"))}
    save_file({k: v.contiguous() for k, v in broken.items()}, tmp_path / "nan.safetensors")
    refused(tmp_path / "nan.safetensors", "NaN", "layer3.5.conv2.weight")


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_with_code_is_refused_unread(tmp_path, writer):
    trap, path = tmp_path / "ran", tmp_path / "bomb.pth"
    if writer == "torch":
        torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "extra": Bomb(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"extra": Bomb(trap)}, protocol=2))
    refused(path, "pickle with code", "refused unread")
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 20, b"PK\x03\x04" + b"\0" * 100, b"\x80\x02."])
def test_what_is_no_weights_file_is_one_line(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    refused(tmp_path / "x.pth", "x.pth")


def test_a_torn_safetensors_file_is_one_line(state, tmp_path):
    save_file({"conv1.weight": state["conv1.weight"].contiguous()}, tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "torn.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "torn.safetensors", "must be a whole safetensors file")


def test_a_file_without_tensors_is_one_line(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    refused(tmp_path / "empty.pth", "hold no tensors")


@pytest.mark.parametrize("change", ["int8", "complex64", "sparse", "meta"])
def test_tensors_that_are_no_plain_numbers_are_named(tiny, tmp_path, change):
    state = tiny.module.state_dict()
    stem = state["conv1.weight"]
    changed = {
        "int8": lambda: stem.to(torch.int8),
        "complex64": lambda: stem.to(torch.complex64),
        "sparse": stem.to_sparse,
        "meta": lambda: stem.to("meta"),
    }[change]()
    torch.save(state | {"conv1.weight": changed}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "1 no dense floating-point tensors (conv1.weight)", name="r3d-tiny")


@pytest.mark.parametrize("text", ["[]", "null", '{"facts": 3}', '{"backbone": ["r3d-tiny"]}', "[1", "[" * 10**5])
def test_a_provenance_that_is_none_is_one_line(tiny, tmp_path, text):
    save_file(tiny.module.state_dict(), tmp_path / "x.safetensors", metadata={"mastaf": text})
    refused(tmp_path / "x.safetensors", "x.safetensors", name="r3d-tiny")


def test_weights_of_another_backbone_say_so(tiny, tmp_path):
    write_weights(tmp_path / "tiny.safetensors", tiny.module.state_dict(), provenance={"backbone": "r3d-tiny"})
    refused(tmp_path / "tiny.safetensors", "of backbone 'r3d-tiny', not 'r3d'")
