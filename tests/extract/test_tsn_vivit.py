"""The paper's frame-level and transformer backbones: their weights' formats, and what 8 frames do to ViViT."""

import json

import pytest
import torch
import transformers as hub
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError
from torch.nn import functional as F

DEPTHS = (3, 4, 6, 3)


def torchvision_resnet50(seed=0):
    """A random state dict with the names and shapes of torchvision's resnet50."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def conv(name, out, into, kernel):
        state[f"{name}.weight"] = (
            torch.randn(out, into, kernel, kernel, generator=generator) / (into * kernel**2) ** 0.5
        )

    def norm(name, width):
        state[f"{name}.weight"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.running_mean"] = 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=generator)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    into = 64
    for layer, (depth, width) in enumerate(zip(DEPTHS, (64, 128, 256, 512), strict=True), 1):
        for block in range(depth):
            name = f"layer{layer}.{block}"
            conv(f"{name}.conv1", width, into, 1)
            conv(f"{name}.conv2", width, width, 3)
            conv(f"{name}.conv3", 4 * width, width, 1)
            for number, size in ((1, width), (2, width), (3, 4 * width)):
                norm(f"{name}.bn{number}", size)
            if block == 0:
                conv(f"{name}.downsample.0", 4 * width, into, 1)
                norm(f"{name}.downsample.1", 4 * width)
            into = 4 * width
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, 2048, generator=generator), torch.zeros(1000)
    return state


def slow_resnet50(state, x):
    """[n, 3, h, w] -> [n, 2048, h / 32, w / 32], step by step from the names of torchvision's state dict."""

    def norm(name, y):
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return y * scale[:, None, None] + shift[:, None, None]

    def conv(name, y, stride=1, padding=0):
        return F.conv2d(y, state[f"{name}.weight"], stride=stride, padding=padding)

    x = F.max_pool2d(norm("bn1", conv("conv1", x, 2, 3)).relu(), 3, 2, 1)
    for layer, depth in enumerate(DEPTHS, 1):
        for block in range(depth):
            name, stride = f"layer{layer}.{block}", 2 if block == 0 and layer > 1 else 1
            y = norm(f"{name}.bn1", conv(f"{name}.conv1", x)).relu()
            y = norm(f"{name}.bn2", conv(f"{name}.conv2", y, stride, 1)).relu()
            y = norm(f"{name}.bn3", conv(f"{name}.conv3", y))
            if block == 0:
                x = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            x = (x + y).relu()
    return x


def some_clips(backbone, count=1):
    shape = (count, backbone.frames, backbone.size, backbone.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(torchvision_resnet50(), path)
    return path


def test_torchvisions_resnet50_gives_its_own_maps(torchvision_file):
    backbone = load_backbone("tsn", weights=str(torchvision_file), frames=3, size=64)
    clips = some_clips(backbone)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    frames = ((clips[0] / 255 - mean) / std).permute(0, 3, 1, 2)  # [t, 3, h, w]
    with torch.no_grad():
        expected = slow_resnet50(torchvision_resnet50(), frames).permute(1, 0, 2, 3)  # [c, t, h, w]
        torch.testing.assert_close(backbone.forward(clips)[0], expected, atol=1e-4, rtol=1e-3)
        averaged = load_backbone("tsn", weights=str(torchvision_file), frames=3, size=64, time="mean")
        assert averaged.cube_shape == (2048, 1, 2, 2)
        torch.testing.assert_close(averaged.forward(clips)[0, :, 0], expected.mean(1), atol=1e-4, rtol=1e-3)
    assert backbone.facts["pretraining"] == ["ImageNet-1k"]
    assert backbone.weights_sha256 == averaged.weights_sha256


def test_published_shapes_of_both_cube_forms():
    backbone = load_backbone("tsn", weights="random")
    assert backbone.cube_shape == (2048, 8, 7, 7)
    assert backbone.at("stage4", time="mean").cube_shape == (2048, 1, 7, 7)
    assert backbone.at("stage3").cube_shape == (1024, 8, 14, 14)


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "module", "half"])
def test_torchvision_files_as_people_save_them(tmp_path, torchvision_file, wrap):
    state = torchvision_resnet50()
    if wrap == "module":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if wrap == "half":
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save({"state_dict": state, "epoch": 3} if wrap == "state_dict" else state, tmp_path / "w.pth")
    found = load_backbone("tsn", weights=str(tmp_path / "w.pth"), frames=1, size=32)
    if wrap != "half":
        assert (
            found.weights_sha256
            == load_backbone("tsn", weights=str(torchvision_file), frames=1, size=32).weights_sha256
        )


def test_the_hubs_resnet_loads_from_a_folder(tmp_path, save_encoder, torchvision_file):
    """The same weights in the hub's format have the same digest and cubes."""
    folder = save_encoder(tmp_path / "resnet-50", hub.ResNetConfig())
    backbone = load_backbone("tsn", weights=str(torchvision_file), frames=2, size=32)
    backbone.module.model.save_pretrained(folder)
    again = load_backbone("tsn", weights=str(folder), frames=2, size=32)
    assert again.weights_sha256 == backbone.weights_sha256
    clips = some_clips(backbone)
    with torch.no_grad():
        assert torch.equal(again.forward(clips), backbone.forward(clips))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        # The stride stands in another convolution: the same shapes, other maps.
        (hub.ResNetConfig(downsample_in_bottleneck=True), "has downsample_in_bottleneck True, not False"),
        (hub.ResNetConfig(layer_type="basic", hidden_sizes=[8, 8], depths=[1, 1], embedding_size=8), "has embedding_"),
        (hub.ViTConfig(num_hidden_layers=1, hidden_size=16, num_attention_heads=2), "has model_type 'vit'"),
    ],
)
def test_another_network_in_a_folder_is_refused(tmp_path, save_encoder, config, words):
    with pytest.raises(ExtractError) as caught:
        load_backbone("tsn", weights=str(save_encoder(tmp_path / "m", config)), frames=2, size=32)
    assert words in str(caught.value)
    assert "microsoft/resnet-50" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_depth_is_named(tmp_path):
    state = {name: tensor for name, tensor in torchvision_resnet50().items() if not name.startswith("layer3.5")}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ExtractError) as caught:
        load_backbone("tsn", weights=str(tmp_path / "w.pth"))
    assert "do not fit backbone 'tsn'" in str(caught.value)
    assert "microsoft/resnet-50" in str(caught.value)
    assert "\n" not in str(caught.value)


VIVIT = hub.VivitConfig(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=32,
    num_frames=32,
    tubelet_size=[2, 16, 16],
)


@pytest.fixture(scope="module")
def vivit_folder(tmp_path_factory, save_encoder):
    return save_encoder(
        tmp_path_factory.mktemp("vivit"), VIVIT, offset=True, rescale_factor=1 / 127.5, size={"shortest_edge": 32}
    )


def test_vivit_of_8_frames_keeps_a_position_of_its_own_for_each_token(vivit_folder):
    long = load_backbone("vivit", weights=str(vivit_folder), frames=32)
    short = load_backbone("vivit", weights=str(vivit_folder))
    assert (long.frames, long.cube_shape) == (32, (24, 16, 2, 2))
    assert (short.frames, short.cube_shape) == (8, (24, 4, 2, 2))
    assert short.weights_sha256 == long.weights_sha256, "the same file, whatever became of its positions"
    table = long.module.model.embeddings.position_embeddings  # [1, 1 + 16 * 4, c]
    found = short.module.model.embeddings.position_embeddings  # [1, 1 + 4 * 4, c]
    assert torch.equal(found[:, :1], table[:, :1])
    # A tubelet of the short clip covers four of the long one's; its position is that of their middle.
    old = table[0, 1:].unflatten(0, (16, 4))  # [16, 4, c]
    expected = torch.stack([(old[4 * step + 1] + old[4 * step + 2]) / 2 for step in range(4)])  # [4, 4, c]
    torch.testing.assert_close(found[0, 1:].unflatten(0, (4, 4)), expected)
    distances = torch.cdist(found[0], found[0]) + torch.eye(17)
    assert distances.min() > 1e-3


def test_vivit_at_its_own_length_is_the_librarys(vivit_folder):
    backbone = load_backbone("vivit", weights=str(vivit_folder), frames=32)
    model = hub.VivitModel.from_pretrained(vivit_folder).eval()
    clips = some_clips(backbone)
    pixels = (clips / 127.5 - 1 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.25, 0.2, 0.3])
    with torch.no_grad():
        tokens = model(pixels.permute(0, 1, 4, 2, 3)).last_hidden_state[0, 1:]  # [L, c]
        torch.testing.assert_close(backbone.forward(clips)[0], tokens.T.unflatten(1, (16, 2, 2)), atol=1e-5, rtol=1e-4)


def test_vivits_published_shape_and_pixels_without_weights():
    backbone = load_backbone("vivit", weights="random")
    assert backbone.cube_shape == (768, 4, 14, 14)
    assert (backbone.pixels.scale, backbone.pixels.offset) == (1 / 127.5, -1.0)
    assert backbone.layers[0] == "embed"
    assert backbone.layers[-2:] == ("block12", "last")


def test_vivit_refuses_other_models(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "resnet", hub.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1]))
    with pytest.raises(ExtractError, match="are of a 'resnet', not of ViViT; ViViT's weights are google/vivit"):
        load_backbone("vivit", weights=str(folder))
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "resnet"
