"""A data set's videos as clips for training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...extract.backbones.base import Backbone
from ...extract.datasets.links import Links
from ...extract.datasets.videos import VideoSet
from ..errors import PipelineError
from .clips import Clips, ClipSource
from .frame_cache import FrameCache


@dataclass(frozen=True, eq=False)
class SplitClips:
    """The usable videos of a split. source: their clips, by row; rows: int64 [n], rows of the source that are usable;
    keys, classes: one entry a usable video; failures: {key, reason} of the others."""

    split: str
    source: Clips
    rows: np.ndarray
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    failures: tuple[dict[str, str], ...]

    @property
    def class_names(self) -> list[str]:
        """Sorted."""
        return sorted(set(self.classes))


@dataclass(frozen=True)
class CacheOptions:
    """Where frames are kept, and how many more than a clip has, for training to draw from."""

    folder: Path
    more: int


def cache_options(folder: Path | None, more: int | None) -> CacheOptions | None:
    """Those of `--frame-cache` and `--cache-frames`; None without a folder."""
    if folder is None and more is not None:
        raise PipelineError(f"cache_frames ({more}) needs a --frame-cache to keep them in")
    if more is not None and more < 2:
        raise PipelineError(f"cache_frames ({more}) must be at least 2")
    return None if folder is None else CacheOptions(Path(folder), more or 0)


def open_split(
    videos: VideoSet,
    split: str,
    base: Backbone,
    *,
    workers: int | None,
    cache: CacheOptions | None = None,
    whole: bool = False,
) -> SplitClips:
    """Decode a split once, into memory or a frame cache. whole: keep the resized pictures, so that any crop can be cut
    from them, and not the centre crops alone; a frame cache always does. Raises PipelineError where a class has no
    video that can be decoded."""
    wanted = [row for row, name in enumerate(videos.index.splits) if name == split]
    rule = replace(base.pixels, size=base.pixels.resize_size) if whole or cache is not None else base.pixels
    paths = [videos.root / videos.index.paths[row] for row in wanted]
    how: dict[str, Any] = {"frames": base.frames, "rule": rule, "workers": workers}
    how["links"] = Links(videos.root, videos.follow_links)
    if cache is None:
        source = ClipSource(paths, **how)
    else:
        keys = [videos.index.keys[row] for row in wanted]
        more = cache.more if split == "train" else 0
        source = FrameCache(cache.folder / f"{split}.zarr", paths, keys, more=more, **how)
    failed = source.decode_all()
    usable = [number for number in range(len(wanted)) if number not in failed]
    names = {column: [getattr(videos.index, column)[row] for row in wanted] for column in ("keys", "classes")}
    found = SplitClips(
        split=split,
        source=source,
        rows=np.array(usable, dtype=np.int64),
        keys=tuple(names["keys"][number] for number in usable),
        classes=tuple(names["classes"][number] for number in usable),
        failures=tuple({"key": names["keys"][number], "reason": reason} for number, reason in failed.items()),
    )
    empty = sorted(set(names["classes"]) - set(found.classes))
    if empty:
        source.close()
        raise PipelineError(
            f"no video of class '{empty[0]}' can be decoded ({found.failures[0]['reason']}); mend or remove it"
        )
    return found


def require_train_classes(names: Sequence[str], least: int, where: str, root: object) -> None:
    """Raise PipelineError unless there are so many train classes."""
    if len(names) < least:
        raise PipelineError(
            f"'{where}' has {len(names)} train classes, and {least} or more are needed; put classes into "
            f"{root}/train/CLASS, or use the weights as they are"
        )
