"""The embedded data set `motion`: rendered here, nothing to download.

A class is a motion alone; shapes, colours, textures, background, place, phase and speed are random. Train, val and
test classes are different motions, and no test class is the mirror image of a train class. Clip number i of a class
depends on (seed, split, class, i) alone: not on how many clips are rendered, nor by how many workers.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ...cache.atomic import disk_full, sync_directory, write_json
from ...cache.console import Progress
from ..engine.workers import default_workers
from ..errors import ExtractError
from .motion_encode import encode_clips
from .motion_programmes import PROGRAMMES, Programme
from .motion_render import render_clip

MOTION_CLASSES = {split: tuple(programmes) for split, programmes in PROGRAMMES.items()}
CLIPS_PER_CLASS = {"train": 60, "val": 40, "test": 40}

# Raised by one whenever the same seed gives other clips than before.
_VERSION = 1
_MARKER, _STARTED, _LOCK = ".motion.json", ".motion.started.json", ".motion.lock"


def render_motion(
    root: Path, *, clips_per_class: dict[str, int] | None = None, seed: int = 0, workers: int | None = None
) -> None:
    """Render ROOT/{train,val,test}/CLASS/clipNNN.mp4; the file ROOT/.motion.json, written last, says that it is whole.

    clips_per_class: clips of each class, by split (default: 60 train, 40 val, 40 test); workers: threads (default:
    one a core). A class appears whole or not at all, so an interrupted rendering is continued by the same call. A
    complete ROOT of this seed is left as it is. Raises ExtractError where ROOT holds something else, StoppedError
    where the disk is full.
    """
    wanted = _settings(clips_per_class, seed)
    if _complete(root, wanted, any_count=clips_per_class is None):
        return
    with disk_full(root):
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / _LOCK):
            if _complete(root, wanted, any_count=clips_per_class is None):  # another process was faster
                return
            _start(root, wanted)
            jobs = _jobs(root, wanted["clips_per_class"])
            _render_classes(root, jobs, seed, workers or default_workers())
            write_json(root / _MARKER, wanted)
            (root / _STARTED).unlink()


def clip_generator(seed: int, split: str, class_name: str, number: int) -> np.random.Generator:
    """The random stream of one clip: Philox, keyed by a digest of everything the clip depends on."""
    name = f"motion {_VERSION}/{seed}/{split}/{class_name}/{number}"
    return np.random.Generator(np.random.Philox(key=int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")))


def _settings(clips_per_class: dict[str, int] | None, seed: int) -> dict[str, Any]:
    counts = dict(clips_per_class or CLIPS_PER_CLASS)
    for split, count in counts.items():
        if split not in PROGRAMMES or not 0 <= count <= 1000:
            raise ExtractError(
                f"clips_per_class ('{split}': {count}) must name train, val or test, and 0 to 1000 clips for each"
            )
    return {"data_set": "motion", "version": _VERSION, "seed": seed, "clips_per_class": counts}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ExtractError(f"{path} is damaged; delete {path.parent} to render it anew") from error
    return value if isinstance(value, dict) else {}


def _complete(root: Path, wanted: dict[str, Any], *, any_count: bool) -> bool:
    found = _read(root / _MARKER)
    if found is None:
        return False
    _require_same(root, found, wanted | ({"clips_per_class": found.get("clips_per_class")} if any_count else {}))
    return True


def _require_same(root: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    wrong = [f"{key} {found.get(key)}, not {value}" for key, value in wanted.items() if found.get(key) != value]
    if wrong:
        raise ExtractError(f"{root} holds another rendering ({'; '.join(wrong)}); use another --root, or delete it")


def _start(root: Path, wanted: dict[str, Any]) -> None:
    """Take an empty ROOT, or one that was begun with the same settings, and clear leftovers."""
    begun = _read(root / _STARTED)
    if begun is not None:
        _require_same(root, begun, wanted)
    elif any(path.name != _LOCK for path in root.iterdir()):
        raise ExtractError(f"{root} must be empty, or hold the data set `motion`; use another --root")
    else:
        write_json(root / _STARTED, wanted)
    for leftover in root.glob(".rendering-*"):
        shutil.rmtree(leftover)


def _jobs(root: Path, counts: dict[str, int]) -> list[tuple[str, str, int]]:
    """(split, class, clips) of each class that is not there yet."""
    jobs = [(split, name, counts.get(split, 0)) for split, names in MOTION_CLASSES.items() for name in names]
    return [(split, name, count) for split, name, count in jobs if count and not (root / split / name).is_dir()]


def _render_classes(root: Path, jobs: list[tuple[str, str, int]], seed: int, workers: int) -> None:
    total = sum(count for _, _, count in jobs)
    with ThreadPoolExecutor(max_workers=workers) as pool, Progress(total, "rendering motion", "clips") as progress:
        futures = [pool.submit(_render_class, root, *job, seed, progress.advance) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _render_class(root: Path, split: str, name: str, count: int, seed: int, advance: Callable[[], None]) -> None:
    programme = PROGRAMMES[split][name]
    with tempfile.TemporaryDirectory(dir=root, prefix=".rendering-") as folder:
        beside = Path(folder) / name
        beside.mkdir()
        encode_clips(_frames(programme, seed, split, name, count, advance), count, beside)
        (root / split).mkdir(exist_ok=True)
        sync_directory(beside)
        beside.rename(root / split / name)


def _frames(
    programme: Programme, seed: int, split: str, name: str, count: int, advance: Callable[[], None]
) -> Iterator[np.ndarray]:
    for number in range(count):
        yield render_clip(programme, clip_generator(seed, split, name, number))
        advance()
