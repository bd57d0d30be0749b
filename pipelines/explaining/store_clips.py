"""The frames that a store's backbone saw: its videos decoded once more, by the store's own recipe."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from ...cache.store import Store
from ...extract.datasets.links import Links
from ...extract.decoding.decode import Clip, decode_clip
from ...extract.decoding.pixels import pixel_rule_of
from ...extract.engine.workers import default_workers
from ...extract.errors import VideoError
from ..errors import PipelineError
from .explanation import Seen


def decode_rows(
    store: Store, rows: Sequence[int], *, root: Path | None = None, follow_links: bool = False
) -> dict[int, Seen]:
    """Row of a store -> the frames of its video that the backbone saw.

    root: where the videos are; else where they were when the store was made. Raises PipelineError naming the key of a
    video that is not there, or gives no frames.
    """
    place = _root(store, root)
    links = Links(place, follow_links)  # whatever the store says: it may come from a stranger

    def decode(row: int) -> Seen:
        key = store.index.keys[row]
        clip = _decode(store, row, place, links)
        return Seen(
            key, clip.pixels, " · ".join(note for note in (clip.note, _changed_since(store, row, place)) if note)
        )

    with ThreadPoolExecutor(min(default_workers(), len(rows))) as pool:
        return dict(zip(rows, pool.map(decode, rows), strict=True))


def _decode(store: Store, row: int, root: Path, links: Links) -> Clip:
    spec, key = store.spec, store.index.keys[row]
    path = root / store.index.paths[row]
    remedy = f"--root names the folder that holds the videos of {store.path}"
    if not path.exists():
        raise PipelineError(f"the video of '{key}' is not at {path}; {remedy}")
    try:
        how = {"frames": spec.frames, "rule": pixel_rule_of(spec), "sampling": spec.sampling, "key": key}
        return decode_clip(path, links=links, **how)
    except VideoError as error:
        raise PipelineError(f"the video of '{key}' ({path}) cannot be shown: {error}; {remedy}") from error


def _root(store: Store, root: Path | None) -> Path:
    known = store.header.provenance.get("root")
    if root is None and isinstance(known, str):
        root = Path(known)
    if root is None or not root.is_dir():
        where = "does not say where its videos were" if root is None else f"had its videos in {root}, no folder here"
        raise PipelineError(f"{store.path} {where}; give their folder with --root")
    return root


def _changed_since(store: Store, row: int, root: Path) -> str:
    """A note where a video was written after the store was begun, which copying does too; '' elsewhere."""
    path, begun = root / store.index.paths[row], store.header.provenance.get("date")
    try:
        made = datetime.fromisoformat(str(begun)).timestamp()
        files = [path] if path.is_file() else [Path(entry.path) for entry in os.scandir(path)]
        written = max((file.stat().st_mtime for file in files), default=0.0)
    except (OSError, ValueError):
        return ""
    return "written after the store was made: perhaps not what the backbone saw" if written > made else ""
