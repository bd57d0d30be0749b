"""Frames of a split, decoded once into a folder on this machine, so that training reads and never decodes.

DIR/train.zarr/zarr.json          a Zarr v3 group; its attribute `mastaf_frames` is the recipe of the frames
               frames/zarr.json   uint8 [n, frames + more, side, side, 3]; chunk = one video, shard = several
               frames/c.3.0.0.0.0 one file a shard, not compressed
               shards/00003.json  the record of shard 3, written last: rows, states of the videos, failures, sha256

The first `frames` of a video are those that extraction samples, `more` are spread over the whole clip, from which
training draws. A shard without a record, or with a video that has changed since, is made again.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...cache.atomic import remove_leftovers, write_bytes, write_json
from ...cache.console import Progress
from ...cache.room import require_room
from ...cache.sharding import encode_index
from ...cache.store import writer_lock
from ...extract.datasets.links import Links
from ...extract.decoding.decode import decode_clip
from ...extract.decoding.fingerprint import fingerprint
from ...extract.decoding.pixels import PixelRule
from ...extract.engine.workers import default_workers
from ...extract.errors import VideoError
from ..errors import PipelineError

_SHARD_BYTES = 64 << 20
_MOST_OPEN = 256  # shards


class FrameCache:
    """Clips by row, as `ClipSource` gives them, from a folder `place` that this fills.

    keys: of the rows, part of the recipe; more: frames beside those of a clip, 0 for none.
    """

    def __init__(
        self,
        place: Path,
        paths: Sequence[Path],
        keys: Sequence[str],
        *,
        frames: int,
        rule: PixelRule,
        more: int = 0,
        links: Links | None = None,
        workers: int | None = None,
    ) -> None:
        self._place, self._paths = place, list(paths)
        self._frames, self._more, self._rule, self._links = frames, more, rule, links
        self._shape = (frames + more, rule.size, rule.size, 3)
        self._rows = max(1, min(_SHARD_BYTES // math.prod(self._shape), 64))
        self._workers = workers or default_workers()
        self._recipe = _recipe(keys, frames, more, rule)
        self._shard = lru_cache(maxsize=_MOST_OPEN)(self._map)

    def decode_all(self) -> dict[int, str]:
        """Decode what is not there yet. Returns the reason for each row that cannot be used."""
        self._place.parent.mkdir(parents=True, exist_ok=True)
        with writer_lock(self._place):
            self._create_or_check()
            states = [fingerprint(path) for path in self._paths]
            todo = [shard for shard in range(self._shards) if not self._is_done(shard, states)]
            nbytes = math.prod(self._shape) * sum(len(self._range(shard)) for shard in todo)
            require_room([(self._place / "frames", nbytes)], remedy="give another --frame-cache, or none")
            done = len(self._paths) - sum(len(self._range(shard)) for shard in todo)
            with (
                ThreadPoolExecutor(self._workers) as pool,
                Progress(len(self._paths), "decoding into the frame cache", "clips", done=done) as progress,
            ):
                for shard in todo:
                    self._fill(shard, pool)
                    progress.advance(len(self._range(shard)))
        failed: dict[int, str] = {}
        for shard in range(self._shards):
            failed |= {int(row): reason for row, reason in self._record(shard)["failed"].items()}
        return failed

    def load(self, rows: Sequence[int], rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 [len(rows), frames, side, side, 3]; with rng each a draw from `more` frames where there are any."""
        clips = np.empty((len(rows), self._frames, *self._shape[1:]), np.uint8)
        for clip, row in zip(clips, rows, strict=True):
            shard, place = divmod(row, self._rows)
            video = self._shard(shard)[place]  # [frames + more, side, side, 3]
            if rng is None or not self._more:
                clip[:] = video[: self._frames]
            else:
                clip[:] = video[self._frames + jittered(self._more, self._frames, rng)]
        return clips

    def close(self) -> None:
        """Let the files go."""
        self._shard.cache_clear()

    @property
    def _shards(self) -> int:
        return -(-len(self._paths) // self._rows)

    def _range(self, shard: int) -> range:
        return range(shard * self._rows, min((shard + 1) * self._rows, len(self._paths)))

    def _file(self, shard: int) -> Path:
        return self._place / "frames" / f"c.{shard}.0.0.0.0"

    def _record_file(self, shard: int) -> Path:
        return self._place / "shards" / f"{shard:05d}.json"

    def _create_or_check(self) -> None:
        """Make the group, or refuse one of another recipe."""
        header = self._place / "zarr.json"
        if not header.is_file():
            self._create()
        try:
            there = json.loads(header.read_text("utf-8"))["attributes"]["mastaf_frames"]
            differing = [name for name, value in self._recipe.items() if there.get(name) != value]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PipelineError(f"{self._place} is no frame cache ({error}); give another --frame-cache") from None
        if differing:
            words = "; ".join(f"{name}: {_short(self._recipe[name])} here, {_short(there[name])} there"
                              for name in differing)  # fmt: skip
            raise PipelineError(f"{self._place} holds other frames ({words}); give another --frame-cache, or remove it")

    def _create(self) -> None:
        (self._place / "frames").mkdir(parents=True, exist_ok=True)
        (self._place / "shards").mkdir(exist_ok=True)
        shape, chunk = [len(self._paths), *self._shape], [1, *self._shape]
        array = {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [self._rows, *self._shape]}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
            "fill_value": 0,
            "codecs": [_sharding(chunk)],
            "attributes": {},
            "dimension_names": ["video", "frame", "y", "x", "channel"],
            "storage_transformers": [],
        }
        write_json(self._place / "frames" / "zarr.json", array)
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"mastaf_frames": self._recipe}}
        write_json(self._place / "zarr.json", group)  # last: it says that the rest is there

    def _record(self, shard: int) -> dict[str, Any]:
        return json.loads(self._record_file(shard).read_text("utf-8"))

    def _is_done(self, shard: int, states: Sequence[str]) -> bool:
        """Whether a shard is there, whole, and of the videos as they are now."""
        try:
            record, nbytes = self._record(shard), self._file(shard).stat().st_size
            return record["seen"] == [states[row] for row in self._range(shard)] and record["bytes"] == nbytes
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _fill(self, shard: int, pool: ThreadPoolExecutor) -> None:
        rows = self._range(shard)
        for target in (self._file(shard), self._record_file(shard)):
            remove_leftovers(target)
        self._record_file(shard).unlink(missing_ok=True)  # of videos that have changed
        found = list(pool.map(self._decode, rows))
        failed = {row: reason for row, (_, reason, _) in zip(rows, found, strict=True) if reason}
        pieces = [frames.tobytes() for frames, _, _ in found]
        data = b"".join([*pieces, encode_index([len(piece) for piece in pieces], self._rows)])
        write_bytes(self._file(shard), data)
        record = {"rows": [rows.start, rows.stop], "seen": [seen for _, _, seen in found], "failed": failed}
        write_json(self._record_file(shard), record | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})

    def _decode(self, row: int) -> tuple[np.ndarray, str, str]:
        """Frames uint8 [frames + more, side, side, 3], zeros where there are none, the reason, the video's state."""
        try:
            how = {"rule": self._rule, "links": self._links}
            clip = decode_clip(self._paths[row], frames=self._frames, **how)
            parts = [clip.pixels]
            if self._more:
                parts.append(decode_clip(self._paths[row], frames=self._more, **how).pixels)
            return np.concatenate(parts), "", clip.seen
        except VideoError as error:
            return np.zeros(self._shape, np.uint8), str(error), error.seen

    def _map(self, shard: int) -> np.ndarray:
        """The frames of a shard, uint8 [rows, frames + more, side, side, 3]."""
        shape = (len(self._range(shard)), *self._shape)
        return np.memmap(self._file(shard), np.uint8, mode="r", shape=shape)


def jittered(count: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [wanted]: evenly spaced among 0 .. count-1 between a drawn start and a drawn end, as the authors' loader
    jitters: each at most 5 from its border, and less where that would leave too few."""
    slack = max(0, min(5, (count - wanted) // 2))
    start, off = (int((slack + 1) * rng.random()) for _ in range(2))
    end = count - 1 - off
    return start + np.arange(wanted) * (end - start) // max(wanted - 1, 1)


def _recipe(keys: Sequence[str], frames: int, more: int, rule: PixelRule) -> dict[str, Any]:
    """What the frames depend on, beside the videos' content."""
    pixels = {k: v for k, v in asdict(rule).items() if k in ("resize", "resize_size", "size", "scaler")}
    digest = hashlib.sha256(json.dumps(list(keys), ensure_ascii=False).encode()).hexdigest()
    return {"videos": digest, "count": len(keys), "frames": frames, "more": more, **pixels}


def _sharding(chunk: Sequence[int]) -> Mapping[str, Any]:
    checksum = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunk),
            "codecs": [{"name": "bytes"}],
            "index_codecs": checksum,
            "index_location": "end",
        },
    }


def _short(value: Any) -> str:
    return str(value)[:12]
