"""A data set's videos as clips for training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...extract.backbones.base import Backbone
from ...extract.datasets.links import Links
from ...extract.datasets.videos import VideoSet
from ..errors import PipelineError
from .clips import ClipSource


@dataclass(frozen=True, eq=False)
class SplitClips:
    """The usable videos of a split. source: their clips, by row; rows: int64 [n], rows of the source that are usable;
    keys, classes: one entry a usable video; failures: {key, reason} of the others."""

    split: str
    source: ClipSource
    rows: np.ndarray
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    failures: tuple[dict[str, str], ...]

    @property
    def class_names(self) -> list[str]:
        """Sorted."""
        return sorted(set(self.classes))


def open_split(videos: VideoSet, split: str, base: Backbone, *, workers: int | None, whole: bool = False) -> SplitClips:
    """Decode a split once. whole: keep the resized pictures, so that any crop can be cut from them, and not the centre
    crops alone. Raises PipelineError where a class has no video that can be decoded."""
    wanted = [row for row, name in enumerate(videos.index.splits) if name == split]
    rule = replace(base.pixels, size=base.pixels.resize_size) if whole else base.pixels
    source = ClipSource(
        [videos.root / videos.index.paths[row] for row in wanted],
        frames=base.frames,
        rule=rule,
        links=Links(videos.root, videos.follow_links),
        workers=workers,
    )
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
