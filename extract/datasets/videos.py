"""A data set as extraction sees it: one row per video, in an order that no file system decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cache.index import SPLITS, VideoIndex
from ..errors import ExtractError
from .naming import natural, some


@dataclass(frozen=True)
class Video:
    """One video. path: relative to the root, with `/`; key: canonical and unique; group: source group or ''."""

    path: str
    key: str
    class_name: str
    split: str
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a reader found. scheme: name of the split; coverage: see StoreHeader; ignored: what was left out,
    counted by reason; absent: listed videos that are not on disk; notes: lines that the user should see."""

    videos: Sequence[Video]
    scheme: str
    coverage: tuple[dict[str, Any], ...]
    ignored: dict[str, int]
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def absent_notes(absent: Sequence[str]) -> tuple[str, ...]:
    """A note on the listed videos that are not on disk, if there are any; `--json` has all their names."""
    return (f"listed videos that are not there: {len(absent)} ({some(absent)})",) if absent else ()


@dataclass(frozen=True, kw_only=True)
class VideoSet:
    """A data set on disk, ready for extraction.

    name: as given to --dataset; root: folder that the index's paths are relative to; split_scheme: `hmdb51-arn`;
    flip_keeps_class: whether a mirrored video keeps its class; coverage: {split, class, found, expected} per class;
    follow_links: whether links may leave the root; ignored: what was left out, counted by reason; absent: listed
    videos that are not on disk; notes: lines that the user should see.
    """

    name: str
    root: Path
    split_scheme: str
    flip_keeps_class: bool
    index: VideoIndex
    coverage: tuple[dict[str, Any], ...] = ()
    follow_links: bool = False
    ignored: dict[str, int]
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"VideoSet({self.name}, split {self.split_scheme}, {self.index!r} in {self.root})"


def ordered_index(videos: Sequence[Video]) -> VideoIndex:
    """The index of the videos, by split (train, val, test), class and name in natural order.

    ExtractError when two videos have one key, naming both, and when a class is in two splits: few-shot learning is
    tested on classes that training has not seen.
    """
    _refuse_repeated_keys(videos)
    _refuse_shared_classes(videos)
    rows = sorted(videos, key=lambda v: (SPLITS.index(v.split), natural(v.class_name), natural(v.key)))
    return VideoIndex(
        paths=tuple(v.path for v in rows),
        keys=tuple(v.key for v in rows),
        classes=tuple(v.class_name for v in rows),
        splits=tuple(v.split for v in rows),
        groups=tuple(v.group for v in rows),
    )


def _refuse_repeated_keys(videos: Sequence[Video]) -> None:
    seen: dict[str, Video] = {}
    for video in videos:
        first = seen.setdefault(video.key, video)
        if first is not video:
            raise ExtractError(
                f"'{first.path}' and '{video.path}' would both be '{video.key}'; rename one of them or move it away"
            )


def _refuse_shared_classes(videos: Sequence[Video]) -> None:
    split_of: dict[str, str] = {}
    for video in videos:
        first = split_of.setdefault(video.class_name, video.split)
        if first != video.split:
            raise ExtractError(
                f"class '{video.class_name}' is in {first} and in {video.split}, but the splits of few-shot learning "
                "must not share classes; keep it in one of them, or give ROOT/CLASS/VIDEO and let the classes be split"
            )
