"""The processor's file of a model: which numbers reach the network, read as the library's processors mean them."""

import json

import pytest
from mastaf.extract.backbones.hub.pixels import read_pixel_rule
from mastaf.extract.errors import ExtractError

PLAIN = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "size": {"height": 64, "width": 64}}


def rule_of(folder, settings, *, file="preprocessor_config.json", size=None, resize="squash", usual=None):
    (folder / file).write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return read_pixel_rule(folder, size=size, resize=resize, usual=usual)


def test_what_is_named_is_taken(tmp_path):
    rule = rule_of(tmp_path, PLAIN | {"rescale_factor": 0.5})
    assert (rule.mean, rule.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (rule.scale, rule.offset) == (0.5, 0.0)
    assert (rule.size, rule.resize_size) == (64, 64)


def test_the_published_rule_of_vivit(tmp_path):
    """As the hub's file of google/vivit-b-16x2-kinetics400 has it: x / 127.5 - 1, then mean and std of 0.5."""
    settings = {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "VivitImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "offset": True,
        "resample": 2,
        "rescale_factor": 0.00784313725490196,
        "size": {"shortest_edge": 256},
    }
    rule = rule_of(tmp_path, settings)
    assert (rule.size, rule.resize_size, rule.offset) == (224, 256, -1.0)
    black, white = ((value * rule.scale + rule.offset - rule.mean[0]) / rule.std[0] for value in (0, 255))
    assert black == pytest.approx((-1 - 0.5) / 0.5)
    assert white == pytest.approx((1 - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": 48}, (48, 48)),
        ({"size": {"shortest_edge": 96}, "crop_size": 80}, (80, 96)),
        ({"size": {"shortest_edge": 96}, "crop_size": {"height": 80, "width": 80}, "do_center_crop": True}, (80, 96)),
        ({"size": {"shortest_edge": 96}, "crop_size": 80, "do_center_crop": False}, (96, 96)),
        ({"size": 224, "crop_pct": 0.875}, (224, 256)),  # as microsoft/resnet-50 and facebook/convnext-tiny-224
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, (384, 384)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384)),  # ConvNeXt crops smaller pictures alone
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.9, "crop_size": 224}, (224, 248)),  # PoolFormer
        ({"size": None}, (32, 37)),  # the configuration's, by the rule of every backbone
    ],
)
def test_sizes(tmp_path, changes, expected):
    rule = rule_of(tmp_path, PLAIN | changes, usual=32)
    assert (rule.size, rule.resize_size) == expected


def test_a_size_of_ones_own_is_resized_as_everywhere(tmp_path):
    rule = rule_of(tmp_path, PLAIN | {"size": {"shortest_edge": 96}, "crop_size": 80}, size=112)
    assert (rule.size, rule.resize_size) == (112, 128)


def test_efficientnets_pixels_are_those_of_its_processor(tmp_path):
    """google/efficientnet-b0: normalised, and divided by std once more; with an offset where it says so."""
    rule = rule_of(tmp_path, PLAIN | {"include_top": True, "rescale_offset": True, "rescale_factor": 1 / 127.5})
    for channel, (mean, std) in enumerate(zip(PLAIN["image_mean"], PLAIN["image_std"], strict=True)):
        seen = (200 * rule.scale + rule.offset - rule.mean[channel]) / rule.std[channel]
        assert seen == pytest.approx(((200 / 127.5 - 1) - mean) / std / std)


def test_switched_off_steps_are_not_done(tmp_path):
    rule = rule_of(tmp_path, PLAIN | {"do_normalize": False, "do_rescale": False})
    assert (rule.scale, rule.offset, rule.mean, rule.std) == (1.0, 0.0, (0.0,) * 3, (1.0,) * 3)


def test_the_videos_own_file_comes_first(tmp_path):
    rule_of(tmp_path, PLAIN)
    nested = {"image_processor": PLAIN | {"size": 16}, "video_processor": PLAIN | {"size": 8}}
    assert rule_of(tmp_path, nested, file="processor_config.json").size == 64
    (tmp_path / "preprocessor_config.json").unlink()
    assert read_pixel_rule(tmp_path, size=None, resize="squash", usual=None).size == 8
    assert rule_of(tmp_path, PLAIN | {"size": 24}, file="video_preprocessor_config.json").size == 24


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{", "must be a JSON file"),
        ("[1]", "has no preprocessor_config.json"),
        (PLAIN | {"image_mean": None}, "image_mean in"),
        (PLAIN | {"image_std": [0.5, 0.5, "x"]}, "must be a number"),
        (PLAIN | {"image_std": [0.5, 0.5, 0.0]}, "std above 0"),
        (PLAIN | {"image_mean": [10**400, 0.5, 0.5]}, "must be a number"),
        (PLAIN | {"do_flip_channel_order": True}, "channels in the order blue, green, red"),
        (PLAIN | {"rescale_factor": "many"}, "rescale_factor in"),
        (PLAIN | {"size": {"height": 64, "width": 48}}, "only squares are made"),
        (PLAIN | {"size": -3}, "no number of pixels"),
        (PLAIN | {"size": None}, "names no size; pass --size"),
    ],
)
def test_what_is_no_rule_is_one_line(tmp_path, settings, words):
    with pytest.raises(ExtractError) as caught:
        rule_of(tmp_path, settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_the_file_is_not_guessed(tmp_path):
    with pytest.raises(ExtractError, match="so mean and std of its pixels are unknown"):
        read_pixel_rule(tmp_path, size=64, resize="squash", usual=None)
