"""What a run computes: the spec of the cubes that it makes."""

from collections.abc import Sequence

from ..cache.console import unknown_name
from ..cache.spec import FeatureSpec
from ..cache.views import flipped_views
from .backbones.base import Backbone
from .datasets.videos import VideoSet
from .decoding.sampling import SAMPLING_RULES
from .decoding.views import check_sampling
from .errors import ExtractError


def make_spec(
    backbone: Backbone, *, views: Sequence[str], sampling: str, precision: str, store_dtype: str = "float16"
) -> FeatureSpec:
    """The spec of a backbone's cubes; precision: as resolved; store_dtype: of the files. ExtractError or CacheError for
    what cannot be."""
    if sampling not in SAMPLING_RULES:
        raise ExtractError(unknown_name("sampling rule", sampling, SAMPLING_RULES))
    check_sampling(views, sampling)
    rule = backbone.pixels
    return FeatureSpec(
        backbone=backbone.name,
        revision=backbone.revision,
        weights=backbone.weights_sha256,
        layer=backbone.layer,
        time=backbone.time,
        frames=backbone.frames,
        sampling=sampling,
        resize=rule.resize,
        resize_size=rule.resize_size,
        size=rule.size,
        scaler=rule.scaler,
        scale=rule.scale,
        offset=rule.offset,
        mean=_triple(rule.mean),
        std=_triple(rule.std),
        precision=precision,
        dtype=store_dtype,
        views=tuple(views),
        cube_shape=backbone.cube_shape,
    )


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def check_flip(views: Sequence[str], videos: VideoSet, *, allow_flip: bool) -> None:
    """ExtractError when a view mirrors videos whose class a mirror changes, unless that is allowed."""
    flipped = flipped_views(views)
    if flipped and not videos.flip_keeps_class and not allow_flip:
        raise ExtractError(
            f"view '{flipped[0]}' would change classes: in '{videos.name}' a mirrored video may be of another class "
            "(left and right are labels); drop it from --views, or pass --allow-flip"
        )
