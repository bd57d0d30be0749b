"""Whether videos are still what a store's cubes were made of: their cubes made again, and compared."""

from collections.abc import Mapping

import torch

from ...cache.store import Store
from ...extract.backbones.base import Backbone
from ...extract.backbones.registry import load_backbone
from ...extract.looks.recheck import LEAST_COSINE, cosines
from ...extract.recipe import make_spec
from ..errors import PipelineError
from .explanation import Seen

# Networks whose weights come with the package, so that looking costs no download and no option.
SHIPPED = ("r3d-tiny",)


def require_same_cubes(store: Store, seen: Mapping[int, Seen], *, weights: str | None) -> bool:
    """Raise PipelineError naming the first row of a store whose frames do not give the cube that is stored.

    seen: row -> frames. weights: of the store's backbone, as for extraction. Without them only backbones whose weights
    come with the package are asked; False where nobody was. Raises ExtractError, SpecMismatchError.
    """
    spec = store.spec
    if weights is None and spec.backbone not in SHIPPED:
        return False
    backbone = load_like(store, weights)
    if weights is None and backbone.weights_sha256 != spec.weights:
        return False  # weights of one's own for this network
    here = make_spec(
        backbone, views=spec.views, sampling=spec.sampling, precision=spec.precision, store_dtype=spec.dtype
    )
    store.spec.require_equal(here, here=f"store {store.path}", there="the backbone with these --weights")
    for row, video in seen.items():
        with torch.inference_mode():
            made = backbone.forward(torch.from_numpy(video.frames.copy()).unsqueeze(0))  # [1, c, t, h, w]
        cosine = float(cosines(made.numpy(), store.read([row]))[0])
        if not cosine >= LEAST_COSINE:
            raise PipelineError(
                f"the video of '{video.name}' has changed since {store.path} was made: its cube is another now (cosine "
                f"{cosine:.3f}); give the folder of the videos as they were with --root, or extract again"
            )
    return True


def load_like(store: Store, weights: str | None) -> Backbone:
    """The backbone of a store's recipe, with these weights."""
    spec = store.spec
    return load_backbone(
        spec.backbone,
        weights=weights,
        frames=spec.frames,
        size=spec.size,
        resize=spec.resize,
        layer=spec.layer,
        time=spec.time,
        revision=spec.revision or None,
    )
