"""What a run computes: the spec of the cubes that it makes."""

from collections.abc import Sequence

from ..cache.console import unknown_name
from ..cache.spec import FeatureSpec
from .backbones.base import Backbone
from .errors import ExtractError
from .sampling import SAMPLING_RULES
from .videos import VideoSet
from .views import check_views


def make_spec(backbone: Backbone, *, views: Sequence[str], sampling: str, precision: str) -> FeatureSpec:
    """The spec of a backbone's cubes; precision: as resolved. ExtractError for unknown views or sampling rule."""
    check_views(views)
    if sampling not in SAMPLING_RULES:
        raise ExtractError(unknown_name("sampling rule", sampling, SAMPLING_RULES))
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
        dtype="float16",
        views=tuple(views),
        cube_shape=backbone.cube_shape,
    )


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def check_flip(views: Sequence[str], videos: VideoSet, *, allow_flip: bool) -> None:
    """ExtractError when a view mirrors videos whose class a mirror changes, unless that is allowed."""
    if "flip" in views and not videos.flip_keeps_class and not allow_flip:
        raise ExtractError(
            f"view 'flip' would change classes: in '{videos.name}' a mirrored video may be of another class "
            "(left and right are labels); drop it from --views, or pass --allow-flip"
        )
