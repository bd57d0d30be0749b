"""`hf:MODEL_ID`: any encoder of videos or images of the Hugging Face hub (VideoMAE, TimeSformer, V-JEPA 2, DINOv2,
CLIP, SigLIP, ResNet, ConvNeXt, Swin, ...).

An encoder of images runs on each frame. Its tokens or maps become cubes; class and register tokens are left out.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...cache.text import shown
from ..errors import ExtractError
from .about import About
from .base import Backbone
from .hub.build import usual_frames, usual_size
from .hub.files import ModelFolder, find_model, where_to_put
from .hub.model import read_config
from .hub.pixels import read_pixel_rule
from .hub.wrap import wrap
from .weights import WeightsFile, find_weights

IMAGE_FRAMES = 8  # of a clip, for encoders of images
_NO_FOLDER = ModelFolder(path=Path(), revision="", source="")

ABOUT = (
    About(
        name="hf:MODEL_ID",
        network="any encoder of videos or images of the Hugging Face hub",
        weights="the model's",
        licence="as its card says",
        frames=None,
        size=None,
        cube_shape=None,
    ),
)


def load(
    *,
    model_id: str,
    weights: str | None,
    frames: int | None,
    size: int | None,
    resize: str,
    layer: str | None,
    revision: str | None = None,
    seed: int,
) -> Backbone:
    """The encoder `model_id`. weights: `hub`, a folder, a file (its configuration beside it, else on the hub),
    `random` (the configuration alone is fetched), or None: a folder of that name in $MASTAF_WEIGHTS, else the hub.
    See `registry.load_backbone`."""
    if not model_id:
        raise ExtractError("backbone 'hf:' must name a model, as in hf:facebook/dinov2-base")
    name = f"hf:{model_id}"
    folder, file = find_folder(model_id, weights, revision)
    config = read_config(folder.path, name)
    return wrap(
        name=name,
        config=config,
        pixels=read_pixel_rule(folder.path, size=size, resize=resize, usual=usual_size(config)),
        frames=frames or usual_frames(config) or IMAGE_FRAMES,
        **origin(weights, folder, file, seed),
        facts=lambda found: known_facts(folder, config, found),
        layer=layer,
        seed=seed,
        beside=folder.settings(),
        advice=where_to_put(model_id),
    )


def find_folder(
    model_id: str, weights: str | None, revision: str | None, *, advice: str = "", known: bool = False
) -> tuple[ModelFolder, Path | None]:
    """The folder with configuration and weights, and the weights file where `weights` names one that lies by itself.

    known: the configuration is known without a file, so that random weights and single files need no hub.
    """
    if weights in (None, "hub", "random"):
        if known and weights == "random":
            return _no_folder(weights, revision), None
        only_config = weights == "random"
        asked = None if only_config else weights
        return find_model(model_id, weights=asked, revision=revision, only_config=only_config), None
    if Path(weights).is_dir():
        return find_model(model_id, weights=weights, revision=revision), None
    file = find_weights(weights, advice=advice or where_to_put(model_id))
    if (file.parent / "config.json").is_file():
        folder = find_model(model_id, weights=str(file.parent), revision=revision)
        return folder, None if _is_the_folders_own(file) else file
    if known:
        return _no_folder(weights, revision), file
    return find_model(model_id, weights=None, revision=revision, only_config=True), file


def origin(weights: str | None, folder: ModelFolder, file: Path | None, seed: int) -> dict[str, Any]:
    """What `wrap` must know of where weights come from, given what `find_folder` found: its arguments weights, source
    and revision."""
    if weights == "random":
        return {"weights": None, "source": f"random (seed {seed})", "revision": folder.revision}
    return {"weights": file or folder.path, "source": str(file or folder.source), "revision": folder.revision}


def _no_folder(weights: str, revision: str | None) -> ModelFolder:
    if revision:
        raise ExtractError(
            f"revision ({revision}) names a commit on the hub, and weights ({weights}) are not from there; leave "
            "--revision out, or pass --weights hub"
        )
    return _NO_FOLDER


def _is_the_folders_own(file: Path) -> bool:
    """Whether the library takes this file when it is given the folder: safetensors first, whole or in parts."""
    safe = any(file.parent.glob("model*.safetensors"))
    name = "model" if safe else "pytorch_model"
    return re.fullmatch(name + r"(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?", file.name) is not None


def known_facts(folder: ModelFolder, config: Any, file: WeightsFile | None) -> Mapping[str, Any]:
    """What the weights saw and their licence: from our own file's provenance, else from the model's card."""
    if file is not None and "facts" in file.provenance:
        return file.provenance["facts"]
    card = _card(folder.path / "README.md") if folder is not _NO_FOLDER else {}
    data = card.get("datasets")
    data = [entry for entry in (data if isinstance(data, list) else [data]) if isinstance(entry, str)]
    licence = card.get("license")
    facts: dict[str, Any] = {
        "pretraining": [shown(entry) for entry in data] or ["unknown (the model's card names no data)"],
        "licence": shown(licence) if isinstance(licence, str) else "unknown",
        "architecture": config.model_type,
    }
    return facts


def _card(path: Path) -> Mapping[str, Any]:
    """The head of a model's card, {} where there is none that can be read."""
    from huggingface_hub import ModelCard

    try:
        return ModelCard.load(path, ignore_metadata_errors=True).data.to_dict() if path.is_file() else {}
    except Exception:  # a stranger's YAML raises what it likes, and a card is no reason to stop
        return {}
