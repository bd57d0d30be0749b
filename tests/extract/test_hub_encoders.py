"""Encoders of the Hugging Face hub, each family as a small model in the hub's own format: the cube against the model's
tokens, taken apart by hand."""

import json

import pytest
import torch
import transformers as hub
from mastaf.extract.backbones.registry import load_backbone
from mastaf.extract.errors import ExtractError

COLUMN = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
IMAGE = COLUMN | {"image_size": 32, "patch_size": 8}
PYRAMID = {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1]}
DINO = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "mlp_ratio": 2, "image_size": 32}

# Family -> configuration, and how its last output lies: (tokens in front, axes of the rest), None for maps.
VIDEOS = {
    "videomae": (hub.VideoMAEConfig(**IMAGE, num_frames=4, tubelet_size=2), (0, "thw")),
    "timesformer": (hub.TimesformerConfig(**IMAGE, num_frames=4), (1, "hwt")),
    "vivit": (hub.VivitConfig(**COLUMN, image_size=32, num_frames=4, tubelet_size=[2, 8, 8]), (1, "thw")),
    "vjepa2": (
        hub.VJEPA2Config(
            patch_size=8,
            crop_size=32,
            frames_per_clip=4,
            hidden_size=48,
            num_attention_heads=2,
            num_hidden_layers=3,
            mlp_ratio=2,
            pred_hidden_size=48,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=2,
        ),
        (0, "thw"),
    ),
}
IMAGES = {
    "vit": (hub.ViTConfig(**IMAGE), (1, "hw")),
    "deit": (hub.DeiTConfig(**IMAGE), (2, "hw")),
    "beit": (hub.BeitConfig(**IMAGE), (1, "hw")),
    "ijepa": (hub.IJepaConfig(**IMAGE), (0, "hw")),
    "dinov2": (hub.Dinov2Config(**DINO, patch_size=8), (1, "hw")),
    "dinov2-registers": (hub.Dinov2WithRegistersConfig(**DINO, patch_size=8, num_register_tokens=4), (5, "hw")),
    "dinov3": (hub.DINOv3ViTConfig(**IMAGE, num_register_tokens=2), (3, "hw")),
    "clip-vision": (hub.CLIPVisionConfig(**IMAGE), (1, "hw")),
    "siglip-vision": (hub.SiglipVisionConfig(**IMAGE), (0, "hw")),
    "swin": (
        hub.SwinConfig(embed_dim=16, depths=[1, 1], num_heads=[2, 2], image_size=32, patch_size=4, window_size=4),
        (0, "hw"),
    ),
    "resnet": (hub.ResNetConfig(embedding_size=8, **PYRAMID), None),
    "convnext": (hub.ConvNextConfig(**PYRAMID, image_size=32), None),
    "convnextv2": (hub.ConvNextV2Config(**PYRAMID, image_size=32), None),
    "regnet": (hub.RegNetConfig(embedding_size=8, groups_width=8, **PYRAMID), None),
}
FRAMES = 4


@pytest.fixture(scope="session", params=[*VIDEOS, *IMAGES])
def encoder(request, tmp_path_factory, save_encoder):
    """(backbone, model of the library, how its output lies)"""
    config, lies = (VIDEOS | IMAGES)[request.param]
    folder = save_encoder(tmp_path_factory.mktemp(request.param), config)
    frames = FRAMES if request.param in IMAGES else None
    backbone = load_backbone(f"hf:owner/{request.param}", weights=str(folder), frames=frames)
    return backbone, hub.AutoModel.from_pretrained(folder).eval(), lies


def some_clips(backbone, count=2):
    shape = (count, backbone.frames, backbone.size, backbone.size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def slow_cubes(model, clips, lies, backbone):
    """Cubes [b, c, t, h, w], each clip, frame and position by itself."""
    rule, cubes = backbone.pixels, []
    mean, std = torch.tensor(rule.mean), torch.tensor(rule.std)
    for clip in clips:
        pixels = ((clip / 255 - mean) / std).permute(0, 3, 1, 2)  # [t, 3, h, w]
        if lies is None:
            maps = [model(frame[None]).last_hidden_state[0] for frame in pixels]  # of [c, h, w]
            cubes.append(torch.stack(maps, dim=1))
            continue
        prefix, axes = lies
        if "t" in axes:
            name = "pixel_values_videos" if "vjepa2" in type(model).__name__.lower() else "pixel_values"
            groups = [model(**{name: pixels[None]}).last_hidden_state[0, prefix:]]  # of [L, c]
        else:
            groups = [model(frame[None]).last_hidden_state[0, prefix:] for frame in pixels]
        c, t, h, w = backbone.cube_shape
        cube = torch.full((c, t, h, w), torch.nan)
        for group, tokens in enumerate(groups):
            sides = {"t": t, "h": h, "w": w}
            for number, token in enumerate(tokens):
                place, left = {"t": group}, number
                for axis in reversed(axes):
                    place[axis], left = left % sides[axis], left // sides[axis]
                cube[:, place["t"], place["h"], place["w"]] = token
        cubes.append(cube)
    return torch.stack(cubes)


def test_cubes_are_the_models_own_tokens_in_their_places(encoder):
    backbone, model, lies = encoder
    clips = some_clips(backbone)
    with torch.no_grad():
        cubes = backbone.forward(clips)
        expected = slow_cubes(model, clips, lies, backbone)
    assert tuple(cubes.shape[1:]) == backbone.cube_shape
    torch.testing.assert_close(cubes, expected, atol=2e-5, rtol=1e-4)


def test_every_stage_gives_the_cube_that_it_says_and_the_pass_goes_on_from_it(encoder):
    backbone, _, _ = encoder
    clips = some_clips(backbone, 1)
    with torch.no_grad():
        whole = backbone.forward(clips)
        for layer in backbone.layers:
            cube = backbone.front(clips, layer)
            assert tuple(cube.shape[1:]) == backbone.at(layer).cube_shape, layer
            if backbone.module.prefix_tokens and layer != backbone.layer:
                with pytest.raises(ExtractError, match="hold no class or register tokens"):
                    backbone.tail(cube, layer)
            else:
                torch.testing.assert_close(backbone.tail(cube, layer), whole, atol=1e-5, rtol=1e-4)


def test_stages_own_every_used_parameter_once_and_gradients_reach_each(encoder):
    backbone, _, _ = encoder
    owned = [p for stage in backbone.module.stages().values() for p in stage.parameters() if p.requires_grad]
    used = [p for p in backbone.module.parameters() if p.requires_grad]
    assert len(owned) == len({id(p) for p in owned})
    assert {id(p) for p in owned} == {id(p) for p in used}
    backbone.forward(some_clips(backbone, 1)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in used)
    backbone.module.zero_grad(set_to_none=True)


def test_layers_in_one_pass_are_those_of_passes_of_their_own(encoder):
    backbone, _, _ = encoder
    clips = some_clips(backbone, 1)
    middle = backbone.layers[len(backbone.layers) // 2]
    with torch.no_grad():
        both = backbone.module.outputs(backbone.normalise(clips), (middle, backbone.layer))
        assert torch.equal(both[middle], backbone.front(clips, middle))
        assert torch.equal(both[backbone.layer], backbone.front(clips, backbone.layer))


def test_bfloat16_points_the_same_way(encoder):
    backbone, _, _ = encoder
    clips = some_clips(backbone)
    with torch.no_grad():
        plain = backbone.forward(clips).flatten(1)
    fast = backbone.prepare_for_inference("bf16")(clips).flatten(1)
    assert torch.cosine_similarity(plain, fast, dim=1).min() >= 0.999


def test_the_vision_tower_of_a_model_with_text_is_taken(tmp_path, save_encoder):
    config = hub.CLIPConfig(vision_config=IMAGE, text_config=COLUMN | {"vocab_size": 99})
    folder = save_encoder(tmp_path / "clip", config)
    backbone = load_backbone("hf:openai/clip", weights=str(folder), frames=2)
    whole = hub.CLIPModel.from_pretrained(folder).eval()
    clips = some_clips(backbone, 1)
    pixels = backbone.normalise(clips)[0].transpose(0, 1)  # [t, 3, h, w]
    with torch.no_grad():
        tokens = whole.vision_model(pixels).last_hidden_state  # [t, 1 + 16, c]
        cubes = backbone.forward(clips)
    expected = tokens[:, 1:].unflatten(1, (4, 4)).permute(3, 0, 1, 2)  # [c, t, h, w]
    torch.testing.assert_close(cubes[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (hub.GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=20), "a 'gpt2' takes input_ids, not pixels"),
        (hub.ViTMAEConfig(**IMAGE), "must make 1 x 4 x 4 = 16 tokens of a clip by its configuration, but made 5"),
    ],
)
def test_what_is_no_encoder_is_refused_with_what_was_seen(tmp_path, save_encoder, config, words):
    folder = save_encoder(tmp_path / "m", config)
    with pytest.raises(ExtractError) as caught:
        load_backbone("hf:owner/m", weights=str(folder))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tokens_in_an_unknown_order_are_refused(tmp_path, save_encoder, monkeypatch):
    """A model that shuffles its patches has the right number of tokens, and must not pass by that."""
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    embed = hub.models.vit.modeling_vit.ViTEmbeddings.forward

    def shuffled(self, *args, **kwargs):
        tokens = embed(self, *args, **kwargs)
        return tokens[:, [0, *range(tokens.shape[1] - 1, 0, -1)]]

    monkeypatch.setattr(hub.models.vit.modeling_vit.ViTEmbeddings, "forward", shuffled)
    with pytest.raises(ExtractError, match="must have one token for each of 1 x 4 x 4 tubelets behind 1 others"):
        load_backbone("hf:owner/m", weights=str(folder))


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("videomae", {"frames": 5}, "frames (5) must be a multiple of 2"),
        ("videomae", {"size": 64}, "size (64) must be 32"),
        ("vit", {"size": 30}, "must be a multiple of 8"),
        ("ijepa", {"layer": "block9"}, "layer ('block9') of backbone 'hf:owner/ijepa' must be one of embed, block1"),
    ],
)
def test_what_does_not_suit_a_model_is_one_line(tmp_path, save_encoder, family, changes, words):
    config, _ = (VIDEOS | IMAGES)[family]
    folder = save_encoder(tmp_path / family, config)
    with pytest.raises(ExtractError) as caught:
        load_backbone(f"hf:owner/{family}", weights=str(folder), **changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "frames", "size"), [("vivit", 8, 48), ("timesformer", 6, 16), ("vjepa2", 8, 48)])
def test_other_clips_than_a_video_encoders_own(tmp_path, save_encoder, family, frames, size):
    folder = save_encoder(tmp_path / family, VIDEOS[family][0])
    backbone = load_backbone(f"hf:owner/{family}", weights=str(folder), frames=frames, size=size)
    steps = frames if family == "timesformer" else frames // 2
    assert backbone.cube_shape[1:] == (steps, size // 8, size // 8)
    with torch.no_grad():
        assert tuple(backbone.forward(some_clips(backbone, 1)).shape[1:]) == backbone.cube_shape


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov3", "clip-vision", "resnet"])
def test_other_sizes_than_an_image_encoders_own(tmp_path, save_encoder, family):
    folder = save_encoder(tmp_path / family, IMAGES[family][0])
    backbone = load_backbone(f"hf:owner/{family}", weights=str(folder), frames=1, size=64)
    side = 8 if family != "resnet" else 2
    assert backbone.cube_shape[1:] == (1, side, side)


def test_weights_of_another_model_than_the_configuration_are_refused(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    save_encoder(tmp_path / "other", hub.ViTConfig(**IMAGE | {"intermediate_size": 64}))
    (tmp_path / "other" / "model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(ExtractError, match="they lack 9 entries, or hold them in other shapes"):
        load_backbone("hf:owner/m", weights=str(folder))


@pytest.mark.parametrize("entry", ["layernorm.weight", "embeddings.patch_embeddings.projection.weight"])
def test_weights_with_nan_are_refused(tmp_path, save_encoder, entry):
    from safetensors.torch import load_file, save_file

    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    state = load_file(folder / "model.safetensors")
    state[entry][3] = torch.nan
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ExtractError, match=f"must be finite, but hold NaN or Inf: .*{entry}"):
        load_backbone("hf:owner/m", weights=str(folder))


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def test_a_pickle_with_code_in_a_folder_is_refused(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    (folder / "model.safetensors").unlink()
    torch.save({"layernorm.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ExtractError) as caught:
        load_backbone("hf:owner/m", weights=str(folder))
    assert "a pickle with code in it, refused unread" in str(caught.value)


def test_code_that_a_configuration_names_is_never_run(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('code ran')")
    with pytest.raises(ExtractError, match="is of no model that transformers"):
        load_backbone("hf:owner/m", weights=str(folder))


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("vit", {"num_hidden_layers": 10**9}, "num_hidden_layers 1000000000, which must be -1000 to 1000"),
        ("vit", {"num_labels": 10**9}, "num_labels 1000000000, which must be"),
        ("vit", {"patch_size": 0}, "patch_size 0, which must be 1 to"),
        ("vit", {"patch_size": [8, 8, 8]}, "(patch_size [8, 8, 8], tubelet_size 1)"),
        ("vit", {"num_attention_heads": 0}, "num_attention_heads 0, which must be"),
        ("vit", {"hidden_size": 4_000_000}, "GB of weights, and this machine has"),
        ("vit", {"hidden_size": "x"}, "Field 'hidden_size' expected int, got str"),
        ("swin", {"depths": [10**9, 1]}, "depths [1000000000, 1], which must be"),
        ("videomae", {"num_frames": 10**9}, "num_frames 1000000000, which must be"),
        ("videomae", {"tubelet_size": 0}, "tubelet_size 0, which must be"),
        ("vivit", {"tubelet_size": []}, "cannot be loaded"),
    ],
)
def test_a_hostile_configuration_is_one_line(tmp_path, save_encoder, family, changes, words):
    folder = save_encoder(tmp_path / "m", (VIDEOS | IMAGES)[family][0])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ExtractError) as caught:
        load_backbone("hf:owner/m", weights=str(folder))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"frames": 10**9}, {"size": 10**6}])
@pytest.mark.parametrize("name", ["hf:owner/m", "r3d-tiny"])
def test_clips_larger_than_any_memory_are_one_line(tmp_path, save_encoder, name, options):
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    weights = str(folder) if name.startswith("hf:") else "random"
    with pytest.raises(ExtractError, match="must be at most 67108864 pixels a clip"):
        load_backbone(name, weights=weights, **options)


@pytest.mark.parametrize("field", ["_attn_implementation", "attn_implementation"])
def test_a_repository_that_a_configuration_names_for_its_attention_is_never_asked(tmp_path, save_encoder, field):
    """With the package `kernels` installed, the library would fetch its code from the hub and run it."""
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: "stranger/kernel"}))
    backbone = load_backbone("hf:owner/m", weights=str(folder))
    assert backbone.module.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"num_attention_heads": 2}, False),
        ({"hidden_act": "relu"}, False),
        ({"layer_norm_eps": 0.5}, False),
        ({"transformers_version": "4.1", "architectures": ["ViTForImageClassification"], "dtype": "float16"}, True),
    ],
)
def test_the_digest_tells_what_configurations_decide(tmp_path, save_encoder, changes, same):
    """The same tensors make other cubes by another number of heads, so they are no longer the same weights."""
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    first = load_backbone("hf:owner/m", weights=str(folder))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    second = load_backbone("hf:owner/m", weights=str(folder))
    assert (first.weights_sha256 == second.weights_sha256) == same
    clips = some_clips(first, 1)
    with torch.no_grad():
        assert torch.equal(first.forward(clips), second.forward(clips)) == same


def test_float16_weights_are_those_of_their_values(tmp_path, save_encoder):
    """Widened to float32, and the same digest as a float32 file of the same values."""
    from safetensors.torch import load_file, save_file

    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    state = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    digests = []
    for kind in (torch.float16, torch.float32):
        save_file({n: t.to(kind) for n, t in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})
        backbone = load_backbone("hf:owner/m", weights=str(folder))
        assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
        digests.append(backbone.weights_sha256)
    assert digests[0] == digests[1]


def test_facts_come_from_the_models_card(tmp_path, save_encoder):
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    card = "---\nlicense: apache-2.0\ndatasets:\n- imagenet-1k\n- kinetics\n---\n# a model\n"
    (folder / "README.md").write_text(card)
    facts = load_backbone("hf:owner/m", weights=str(folder)).facts
    assert facts == {"pretraining": ["imagenet-1k", "kinetics"], "licence": "apache-2.0", "architecture": "vit"}
    (folder / "README.md").write_text("no head at all: [")
    assert load_backbone("hf:owner/m", weights=str(folder)).facts["licence"] == "unknown"


@pytest.mark.parametrize(
    "head", [b"foo: [", b"foo: " + b"[" * 5000, b"datasets: 5\nlicense: 2020-01-01", b"datasets:\n  a: b", b"\xff\xfe"]
)
def test_a_card_that_says_nothing_is_no_reason_to_stop(tmp_path, save_encoder, head):
    folder = save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    (folder / "README.md").write_bytes(b"---\n" + head + b"\n---\n# a model\n")
    facts = load_backbone("hf:owner/m", weights=str(folder)).facts
    assert (facts["pretraining"], facts["licence"]) == (["unknown (the model's card names no data)"], "unknown")


def test_random_weights_leave_every_generator_as_it_was(tmp_path, save_encoder, monkeypatch):
    def touched(_seed):
        raise AssertionError("the GPUs' generators were seeded")

    save_encoder(tmp_path / "m", hub.ViTConfig(**IMAGE))
    monkeypatch.setenv("MASTAF_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", touched)
    before = torch.random.get_rng_state()
    digests = [load_backbone("hf:owner/m", weights="random", seed=seed).weights_sha256 for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.random.get_rng_state(), before)
