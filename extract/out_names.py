"""Where stores go unless told, and how several of one pass are called."""

import re
from collections.abc import Sequence
from pathlib import Path

from ..cache.place import StorePath
from .datasets.by_name import DATASETS
from .errors import ExtractError


def default_out(dataset: str, root: Path | None, backbone: str) -> Path:
    """cache/<dataset>_<backbone>.zarr; one's own folder goes by its name, a CSV file by its name without suffix."""
    if dataset == "folder" and root is not None:
        name = root.resolve().name
    else:
        name = dataset if dataset in DATASETS else Path(dataset).stem
    name = re.sub(r"[^\w.-]+", "-", f"{name}_{backbone.removeprefix('hf:')}")
    return Path("cache") / f"{name}.zarr"


def outs_of(out: StorePath, layers: Sequence[str]) -> list[StorePath]:
    """The store of each layer: `out` for one, `<out>_<layer>` for several. ExtractError if one is asked for twice."""
    if len(set(layers)) < len(layers):
        raise ExtractError(f"layer ({','.join(layers)}) must name each stage once")
    if len(layers) < 2:
        return [out]
    return [out.with_name(f"{out.stem}_{layer}{out.suffix}") for layer in layers]
