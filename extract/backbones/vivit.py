"""ViViT-B/16x2 of A. Arnab et al., "ViViT: A Video Vision Transformer", ICCV 2021, from the Hugging Face hub.

Clips of 8 frames, as in the paper, or 32, as its weights were trained; positions are interpolated in time (see
`hub.positions`). Class token dropped: cubes 768 x (frames / 2) x 14 x 14. Stages: `embed`, `block1` to `block12`,
`last`. The paper began with weights pretrained on JFT, which are not public; those of the hub saw Kinetics-400.
"""

import transformers

from ..decoding.pixels import pixel_rule
from ..errors import ExtractError
from .about import About
from .base import Backbone
from .hub.build import usual_size
from .hub.model import read_config
from .hub.pixels import read_pixel_rule
from .hub.wrap import wrap
from .huggingface import find_folder, known_facts, origin

MODEL_ID = "google/vivit-b-16x2-kinetics400"
FRAMES = 8
ADVICE = (
    f"ViViT's weights are {MODEL_ID} of the Hugging Face hub (MIT): where there is no network, run "
    f"`hf download {MODEL_ID} --local-dir DIR` elsewhere and pass --weights DIR, or put DIR into the folder that "
    f"$MASTAF_WEIGHTS names, as {MODEL_ID.split('/')[1]}"
)

ABOUT = (
    About(
        name="vivit",
        network="ViViT-B/16x2 (A. Arnab et al.)",
        weights=f"[{MODEL_ID}](https://huggingface.co/{MODEL_ID}): Kinetics-400",
        licence="MIT",
        frames=FRAMES,
        size=224,
        cube_shape=(768, FRAMES // 2, 14, 14),
    ),
)


def published_config() -> transformers.VivitConfig:
    """That of the published checkpoint, for weights without a configuration beside them."""
    return transformers.VivitConfig()


def load(
    *,
    weights: str | None,
    frames: int | None,
    size: int | None,
    resize: str,
    layer: str | None,
    revision: str | None = None,
    seed: int,
) -> Backbone:
    """ViViT-B. weights: `hub`, a folder, a file of `mastaf finetune`, or `random`. See `registry.load_backbone`."""
    folder, file = find_folder(MODEL_ID, weights, revision, advice=ADVICE, known=True)
    if folder.source:
        config = read_config(folder.path, "vivit")
        if config.model_type != "vivit":
            raise ExtractError(f"weights ({folder.path}) are of a '{config.model_type}', not of ViViT; {ADVICE}")
        rule = read_pixel_rule(folder.path, size=size, resize=resize, usual=usual_size(config))
    else:
        config = published_config()
        # The published rule: x / 127.5 - 1, then mean and std of 0.5.
        rule = pixel_rule(size or 224, resize=resize, mean=(0.5,) * 3, std=(0.5,) * 3, scale=1 / 127.5, offset=-1.0)
    return wrap(
        name="vivit",
        config=config,
        pixels=rule,
        frames=frames or FRAMES,
        **origin(weights, folder, file, seed),
        facts=lambda found: known_facts(folder, config, found),
        layer=layer,
        seed=seed,
        beside=folder.settings(),
        advice=ADVICE,
    )
