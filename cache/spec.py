"""What a store's cubes are: the recipe that made them, and the digests by which stores are compared."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from .checks import fit_fields, json_digest, require_keys
from .errors import CacheError, SpecMismatchError
from .views import check_views

STORE_DTYPES = ("float16", "int8")  # int8: with a float16 scale a channel, see mastaf.cache.packed
TIMES = ("keep", "mean")  # what became of the axis of time


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """The recipe of the cubes in a store: everything that can change their values, and nothing else.

    Versions, devices and dates are provenance and stand in the store's header, not here.

    backbone: name in the table of backbones, or `hf:MODEL_ID`; revision: commit on the hub, '' for weights from
    elsewhere; weights: sha256 (hex) of the weights that were loaded; layer: name of the stage whose output is the
    cube; time: `keep`, or `mean` for a cube averaged over time; frames: frames per clip; sampling: rule that picks them
    (`even`: floor(k (n-1) / (m-1)), see mastaf.extract.decoding.sampling); resize: `squash` or `short`; resize_size:
    side in pixels after resizing; size: side of the centre crop; scaler: flags of ffmpeg's scaler; scale, offset:
    `x * scale + offset` before mean and std; mean, std: per channel (R, G, B); precision: arithmetic as resolved
    (`fp32`, `bf16`, `fp16`); dtype: of the stored cubes; views: names (see mastaf.cache.views), view 0 is
    `plain`; cube_shape: (c, t, h, w).
    """

    backbone: str
    revision: str
    weights: str
    layer: str
    time: str
    frames: int
    sampling: str
    resize: str
    resize_size: int
    size: int
    scaler: str
    scale: float
    offset: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: str
    dtype: str
    views: tuple[str, ...]
    cube_shape: tuple[int, int, int, int]

    def __post_init__(self) -> None:
        fit_fields(self)
        if min(self.cube_shape) < 1:
            raise CacheError(f"cube_shape {self.cube_shape} must be four positive sizes (c, t, h, w)")
        check_views(self.views)
        if self.time not in TIMES:
            raise CacheError(f"time '{self.time}' must be one of {', '.join(TIMES)}")
        if self.dtype not in STORE_DTYPES:
            raise CacheError(f"dtype '{self.dtype}' must be one of {', '.join(STORE_DTYPES)}")

    @property
    def row_shape(self) -> tuple[int, int, int, int, int]:
        """Shape of one row: (views, c, t, h, w)."""
        return (len(self.views), *self.cube_shape)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values; `from_json` is its inverse."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Rebuild a spec, refusing unknown or missing fields by name (CacheError)."""
        return cls(**require_keys(value, (field.name for field in fields(cls)), "the spec"))

    @property
    def recipe(self) -> str:
        """sha256 (hex) of the recipe: what heads and `classify` check."""
        return json_digest(self.to_json())

    def store(self, split_scheme: str, keys: Iterable[str]) -> str:
        """sha256 (hex) of recipe, split scheme and ordered keys: what resuming and result records check."""
        return json_digest([self.to_json(), split_scheme, list(keys)])

    def diff(self, other: "FeatureSpec", *, here: str = "here", there: str = "there") -> list[str]:
        """Each field that differs, in words: `frames: 16 here, 8 there`. Empty when the recipes are equal."""
        one, two = self.to_json(), other.to_json()
        return [f"{k}: {_words(one[k])} {here}, {_words(two[k])} {there}" for k in one if one[k] != two[k]]

    def require_equal(self, other: "FeatureSpec", *, here: str, there: str) -> None:
        """Raise SpecMismatchError naming every differing field unless both recipes are equal."""
        differing = self.diff(other, here="in the first", there="in the second")
        if differing:
            raise SpecMismatchError(
                f"{here} and {there} hold cubes of different recipes ({'; '.join(differing)}); "
                "use stores made with the same options, or another --out"
            )


def _words(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:12] + "..."
    if isinstance(value, list):
        return "x".join(map(str, value)) if all(isinstance(v, int) for v in value) else ", ".join(map(str, value))
    return str(value)
